//! What a job did, shown from the evidence: its clone may be gone, or another job's by now.

use std::fs::File;

use crossbeam_channel::never;

use crate::agent::AgentSettings;
use crate::agent::places::Places;
use crate::git::Oid;
use crate::git::call::Git;
use crate::git::evidence::{Evidence, Kept, LookError, Slot};
use crate::git::mirror::{self, Base};
use crate::git::new_work::{self, DiffKind};
use crate::git::trouble::GitError;
use crate::job::{Job, limits};

/// The work of a job, as text; `None` if nothing was kept of it.
pub(crate) fn diff(
    settings: &AgentSettings,
    job: &Job,
    kind: DiffKind,
) -> Result<Option<Vec<u8>>, String> {
    let places = Places::of(settings, &job.issue);
    if !places.evidence.is_dir() {
        return Ok(None);
    }
    let nothing = File::open("/dev/null").map_err(|error| error.to_string())?;
    let stop = never();
    let git = Git::new(&nothing, &stop, limits::INSPECT_MS_MAX, Some(&settings.shim));
    let of_git = |error: GitError| error.words().to_string();
    let of_look = |error: LookError| error.why().to_string();
    let evidence =
        Evidence::open(&places.evidence, &places.mirror, &places.looks).map_err(of_git)?;
    let kept = evidence.list(Some(job.id)).map_err(of_git)?;
    let Some(tip) = tip(job, &kept) else { return Ok(None) };
    let before = before(job, &kept);
    let base = match mirror::remembered(&git, &places.mirror) {
        Ok(state) => match state.base(settings.base_branch.as_deref()) {
            Base::Branch { oid, .. } => Some(oid),
            Base::Empty | Base::NoSuchBranch(_) => None,
        },
        // What was kept may be whole all the same.
        Err(_) => None,
    };
    let beginning = Beginning { git: &git, evidence: &evidence, tip, before, base: base.as_ref() };
    let Some(begins_at) = beginning.find().map_err(of_look)? else { return Ok(None) };
    new_work::diff(&git, &evidence, &begins_at, tip, kind).map(Some).map_err(of_look)
}

/// Where the job's work ends: where its last report says that it is, or the branch's last tip.
fn tip<'k>(job: &Job, kept: &'k [Kept]) -> Option<&'k Oid> {
    let reported = job.attempts.last().and_then(|attempt| attempt.report.tip.as_deref());
    let is_work = |kept: &&Kept| matches!(kept.slot, Slot::Tip | Slot::Elsewhere(_));
    let work: Vec<&Kept> = kept.iter().filter(is_work).collect();
    if let Some(found) = work.iter().find(|kept| Some(kept.oid.as_str()) == reported) {
        return Some(&found.oid);
    }
    let tips = work.into_iter().filter(|kept| kept.slot == Slot::Tip);
    tips.max_by_key(|kept| kept.of.attempt).map(|kept| &kept.oid)
}

/// Where the branch was before the job's first attempt, or its first since a person's retry.
fn before<'k>(job: &Job, kept: &'k [Kept]) -> Option<&'k Oid> {
    let first = job.first_attempt();
    let before = kept.iter().filter(|k| k.slot == Slot::BeforeBranch && k.of.attempt >= first);
    before.min_by_key(|kept| kept.of.attempt).map(|kept| &kept.oid)
}

/// What a job's work is compared with.
struct Beginning<'b> {
    git: &'b Git<'b>,
    evidence: &'b Evidence,
    tip: &'b Oid,
    before: Option<&'b Oid>,
    base: Option<&'b Oid>,
}

impl Beginning<'_> {
    /// The branch as it was before; where it was brought onto a newer base since, that base, so
    /// that nobody else's work is shown as the job's. A base that has the work by now tells nothing.
    fn find(&self) -> Result<Option<Oid>, LookError> {
        let fork = match self.base {
            Some(base) => self.fork(base, self.tip)?.filter(|fork| fork != self.tip),
            None => None,
        };
        let Some(before) = self.before else { return Ok(fork) };
        if before == self.tip {
            return Ok(Some(before.clone()));
        }
        match fork {
            Some(fork) if self.fork(&fork, before)?.as_ref() != Some(&fork) => Ok(Some(fork)),
            Some(_) | None => match self.fork(before, self.tip)? {
                Some(shared) => Ok(Some(shared)),
                None => Ok(Some(before.clone())),
            },
        }
    }

    fn fork(&self, one: &Oid, other: &Oid) -> Result<Option<Oid>, LookError> {
        new_work::fork(self.git, self.evidence, one, other)
    }
}
