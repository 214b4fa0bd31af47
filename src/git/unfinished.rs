//! What was begun in a clone and left half done.

use crate::git::folder::{Folder, Unreadable};

/// What somebody began and did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    Merge,
    Rebase,
    Mail,
    CherryPick,
    Revert,
    Bisect,
}

impl Unfinished {
    /// As in "a … was left half done".
    pub fn as_str(self) -> &'static str {
        match self {
            Unfinished::Merge => "merge",
            Unfinished::Rebase => "rebase",
            Unfinished::Mail => "git am",
            Unfinished::CherryPick => "cherry-pick",
            Unfinished::Revert => "revert",
            Unfinished::Bisect => "bisect",
        }
    }

    /// What marks of it lie in a clone that was vetted.
    pub(super) fn find(git: &Folder) -> Result<Option<Unfinished>, Unreadable> {
        // A rebase uses the others' marks while it is at work.
        const MARKS: [(&str, Unfinished); 7] = [
            ("rebase-merge", Unfinished::Rebase),
            ("rebase-apply", Unfinished::Rebase),
            ("MERGE_HEAD", Unfinished::Merge),
            ("CHERRY_PICK_HEAD", Unfinished::CherryPick),
            ("REVERT_HEAD", Unfinished::Revert),
            ("sequencer", Unfinished::CherryPick),
            ("BISECT_START", Unfinished::Bisect),
        ];
        for (name, unfinished) in MARKS {
            if !git.has(name)? {
                continue;
            }
            if name == "rebase-apply" {
                let is_mail = git.folder(name)?.map(|folder| folder.has("applying")).transpose()?;
                if is_mail == Some(true) {
                    return Ok(Some(Unfinished::Mail));
                }
            }
            return Ok(Some(unfinished));
        }
        Ok(None)
    }
}
