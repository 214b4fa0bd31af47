//! What would be lost, in words.

use crate::agent::Workplace;
use crate::cli::finding::size;
use crate::cli::render;
use crate::git::unsaved::{Loss, Unsaved};
use crate::job::limits;

/// What would be lost with a workplace, in one line; nothing if nothing would.
pub(super) fn unsaved(place: &Workplace) -> Option<String> {
    let said = each(&place.unsaved)?.join(", ");
    Some(match &place.not_asked {
        None => format!("it has {said}"),
        Some(why) => {
            let why = render::one_line(why);
            format!("it has {said} (as far as is known: the remote could not be asked: {why})")
        }
    })
}

/// The first of them one by one, and the rest as a number.
pub(super) fn each(unsaved: &[Unsaved]) -> Option<Vec<String>> {
    if unsaved.is_empty() {
        return None;
    }
    let shown = unsaved.len().min(limits::UNSAVED_SHOWN_MAX);
    let (shown, rest) = unsaved.split_at(shown);
    let mut said: Vec<String> = shown.iter().map(one).collect();
    if !rest.is_empty() {
        let count = rest.iter().fold(0, |sum: u64, one| sum.saturating_add(one.count));
        let bytes = rest.iter().fold(0, |sum: u64, one| sum.saturating_add(one.bytes));
        said.push(format!("and {count} more ({})", size(bytes)));
    }
    Some(said)
}

fn one(unsaved: &Unsaved) -> String {
    let Unsaved { what, name, bytes, count } = unsaved;
    let name = name.strip_prefix("refs/heads/").unwrap_or(name);
    let name = render::one_line(name.strip_prefix("refs/").unwrap_or(name));
    let size = if *bytes == 0 { String::new() } else { format!(", {}", size(*bytes)) };
    format!("{} ({name}{size})", kind(*what, *count))
}

/// What it is, and how many of it.
fn kind(what: Loss, count: u64) -> String {
    let several = match what {
        Loss::Commits if count == 1 => return "1 commit that is on no branch of the remote".into(),
        Loss::Commits => "commits that are on no branch of the remote",
        _ if count == 1 => return what.to_string(),
        Loss::Stash => "stashes",
        Loss::Change => "changes without a commit",
        Loss::Untracked => "untracked files",
        Loss::Ignored => "ignored files",
        // Counted are the files in them.
        Loss::Repository | Loss::Submodule | Loss::Worktree => return what.to_string(),
        Loss::LargeFile => "files of git-lfs that may not be pushed",
        Loss::HalfDone => "things half done",
        Loss::Unseen => "things that were not looked at",
    };
    format!("{count} {several}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(what: Loss, name: &str, bytes: u64, count: u64) -> Unsaved {
        Unsaved { what, name: name.into(), bytes, count }
    }

    #[test]
    fn what_would_be_lost_is_named_with_its_size() {
        for (unsaved, expected) in [
            (
                lost(Loss::Commits, "refs/heads/spare", 0, 1),
                "1 commit that is on no branch of the remote (spare)",
            ),
            (
                lost(Loss::Commits, "refs/tags/keep", 2048, 3),
                "3 commits that are on no branch of the remote (tags/keep, 2 KiB)",
            ),
            (lost(Loss::Stash, "stash@{0}", 7, 1), "a stash (stash@{0}, 7 B)"),
            (lost(Loss::Ignored, "notes/", 3_000_000, 2), "2 ignored files (notes/, 2.9 MiB)"),
            (lost(Loss::Change, "README", 0, 1), "a change without a commit (README)"),
            (lost(Loss::Repository, "vendor/x", 9, 12), "a repository (vendor/x, 9 B)"),
            (lost(Loss::Untracked, "a\u{1b}[31m\nb", 1, 1), "an untracked file (a[31m b, 1 B)"),
        ] {
            assert_eq!(each(&[unsaved]).expect("something"), [expected]);
        }
        assert_eq!(each(&[]), None);
        let many: Vec<Unsaved> =
            (0..11).map(|n| lost(Loss::Untracked, &n.to_string(), 1, 2)).collect();
        let said = each(&many).expect("something");
        assert_eq!(said.len(), limits::UNSAVED_SHOWN_MAX + 1);
        assert_eq!(said.last().map(String::as_str), Some("and 6 more (3 B)"));
    }
}
