//! What an agent is told that left something undone.

use crate::run::Undone;

/// The message of the one further run: everything that is left undone, and what to do about it.
pub(crate) fn reminder(undone: &[Undone], branch: &str) -> String {
    let mut text = String::new();
    for what in undone {
        text.push_str(&match what {
            Undone::Uncommitted => format!(
                "You ended without a commit, and there are changes in the worktree. \
                 If the work is done, commit it now, on the branch {branch}. \
                 If it is not, finish it first. Remove what does not belong to it.\n"
            ),
            Undone::Unfinished(what) => format!(
                "You ended in the middle of {what}. Resolve its conflicts and finish it, or abort \
                 it; the result has to be committed on the branch {branch}.\n"
            ),
            Undone::OffBranch(place) => format!(
                "Your work is on {place}, and the branch {branch} does not have it. Bring it onto \
                 {branch} (merge, rebase or cherry-pick it, or take it out of the stash and commit \
                 it), and leave {branch} checked out.\n"
            ),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_undone_is_named_with_the_branch() {
        let undone = [
            Undone::Uncommitted,
            Undone::Unfinished("a merge".into()),
            Undone::OffBranch("branch fix".into()),
        ];
        let text = reminder(&undone, "issue-7");
        assert_eq!(text.lines().count(), 3);
        for (line, words) in text.lines().zip(["without a commit", "a merge", "branch fix"]) {
            assert!(line.contains(words) && line.contains("issue-7"), "{line}");
        }
        assert_eq!(reminder(&[], "issue-7"), "");
    }
}
