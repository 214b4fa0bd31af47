//! What is kept, what is not, and what becomes of a damaged folder.

use super::*;
use crate::git::refs::CloneRefs;
use crate::git::trial::Trial;

const OF: AttemptOf = AttemptOf { job: JobId(41), attempt: 2 };

fn keep(trial: &Trial, of: AttemptOf, wanted: &[(Slot, Oid)]) -> Result<Vec<Kept>, LookError> {
    keep_instead_of(trial, of, wanted, Replacing::All)
}

fn keep_instead_of(
    trial: &Trial,
    of: AttemptOf,
    wanted: &[(Slot, Oid)],
    replacing: Replacing,
) -> Result<Vec<Kept>, LookError> {
    CloneRefs::read(&trial.clone())?;
    let known: Vec<Oid> = trial.fetch().into_iter().map(|(_, oid)| oid).collect();
    trial.evidence().keep(&trial.git(), &trial.clone(), of, wanted, &known, replacing)
}

fn listed(trial: &Trial) -> Vec<String> {
    let list = trial.evidence().list(None).unwrap();
    list.into_iter().map(|kept| kept.of.reference(kept.slot)).collect()
}

#[test]
fn names_are_read_as_they_are_written() {
    for slot in [Slot::Tip, Slot::BeforeBranch, Slot::Before(0), Slot::Elsewhere(12)] {
        let oid: Oid = "0123456789012345678901234567890123456789".parse().unwrap();
        let kept = parse_kept(&OF.reference(slot), oid.clone());
        assert_eq!(kept, Some(Kept { of: OF, slot, oid }));
    }
    for name in
        ["refs/heads/main", "refs/kugetsu/x/1/tip", "refs/kugetsu/1/1", "refs/kugetsu/1/1/x"]
    {
        let oid: Oid = "0123456789012345678901234567890123456789".parse().unwrap();
        assert_eq!(parse_kept(name, oid), None, "{name}");
    }
}

#[test]
fn what_was_made_outlives_its_clone() {
    let trial = Trial::new();
    trial.run("c x 1; c y 2; git tag -a -m t annotated");
    let (tip, tag) = (trial.oid("HEAD"), trial.oid("refs/tags/annotated"));
    assert_ne!(tip, tag);
    let wanted = [(Slot::Tip, tip.clone()), (Slot::Elsewhere(0), tag)];
    let kept = keep(&trial, OF, &wanted).unwrap();
    // A tag stands for its commit.
    assert!(kept.iter().all(|kept| kept.oid == tip));
    trial.run("cd $T; rm -rf clone; mkdir clone");
    assert_eq!(trial.evidence().tip_of(OF.job).unwrap().map(|kept| kept.oid), Some(tip.clone()));
    let words = trial.run(&format!(
        "git --git-dir=$T/evidence/x.git fsck --strict 2>&1; \
         git --git-dir=$T/evidence/x.git show {tip}:x"
    ));
    assert!(words.ends_with("\n1") || words == "1", "{words}");
    // Only what is new is there.
    let packs = trial
        .run("cd $T/evidence/x.git; for p in objects/pack/*.idx; do git show-index < $p; done");
    assert!(packs.lines().count() < 9, "{packs}");
}

#[test]
fn an_attempt_replaces_its_own_and_no_others() {
    let trial = Trial::new();
    let oid = trial.oid("HEAD");
    let all = [(Slot::BeforeBranch, oid.clone()), (Slot::Before(3), oid.clone())];
    keep(&trial, OF, &all).unwrap();
    keep(&trial, AttemptOf { attempt: 10, ..OF }, &[(Slot::Tip, oid.clone())]).unwrap();
    keep(&trial, AttemptOf { job: JobId(4), attempt: 1 }, &[(Slot::Tip, oid.clone())]).unwrap();
    let after = [(Slot::Tip, oid.clone()), (Slot::Elsewhere(0), oid.clone())];
    keep_instead_of(&trial, OF, &after, Replacing::After).unwrap();
    keep_instead_of(&trial, OF, &after[..1], Replacing::After).unwrap();
    let expected = [
        "refs/kugetsu/4/1/tip",
        "refs/kugetsu/41/10/tip",
        "refs/kugetsu/41/2/before/3",
        "refs/kugetsu/41/2/before/branch",
        "refs/kugetsu/41/2/tip",
    ];
    assert_eq!(listed(&trial), expected);
    let evidence = trial.evidence();
    assert_eq!(evidence.tip_of(OF.job).unwrap().map(|kept| kept.of.attempt), Some(10));
    assert_eq!(evidence.before(OF).unwrap().len(), 2);
    // Packed or not, they are the same.
    trial.run("git --git-dir=$T/evidence/x.git pack-refs --all");
    assert_eq!(listed(&trial), expected);
    keep(&trial, OF, &[]).unwrap();
    assert_eq!(listed(&trial), expected[..2]);
    evidence.drop_job(&trial.git(), OF.job).unwrap();
    assert_eq!(listed(&trial), expected[..1]);
}

#[test]
fn a_killed_git_leaves_locks_that_harm_nobody() {
    let trial = Trial::new();
    let oid = trial.oid("HEAD");
    keep(&trial, OF, &[(Slot::Tip, oid.clone())]).unwrap();
    trial.run("cd $T/evidence/x.git; touch packed-refs.lock refs/kugetsu/41/2/tip.lock");
    trial.run("c x 1");
    let tip = trial.oid("HEAD");
    keep(&trial, OF, &[(Slot::Tip, tip.clone())]).unwrap();
    assert_eq!(trial.evidence().tip_of(OF.job).unwrap().map(|kept| kept.oid), Some(tip));
}

/// What damages the folder; afterwards the same is kept again, and an earlier attempt's too, as far
/// as it can be had.
const DAMAGES: [(&str, usize); 9] = [
    (": > HEAD", 2),
    ("rm HEAD config", 2),
    (": > config", 2),
    ("rm -rf refs; touch refs", 1),
    (": > objects/info/alternates", 2),
    (": > refs/kugetsu/41/2/tip", 2),
    ("for f in objects/pack/*.idx; do chmod +w $f; : > $f; done", 2),
    ("rm -f objects/pack/*", 2),
    ("rm -rf objects", 2),
];

#[test]
fn a_damaged_folder_is_mended_or_made_again() {
    for (damage, left) in DAMAGES {
        let trial = Trial::new();
        trial.run("c x 1");
        let earlier = AttemptOf { attempt: 1, ..OF };
        keep(&trial, earlier, &[(Slot::Tip, trial.oid("HEAD"))]).unwrap();
        trial.run("c y 1");
        let tip = trial.oid("HEAD");
        keep(&trial, OF, &[(Slot::Tip, tip.clone())]).unwrap();
        trial.run(&format!("cd $T/evidence/x.git; {damage}"));
        trial.run("c z 1");
        let wanted = [(Slot::Tip, trial.oid("HEAD"))];
        let kept = keep(&trial, OF, &wanted);
        assert!(kept.is_ok(), "{damage}: {kept:?}");
        assert_eq!(listed(&trial).len(), left, "{damage}");
        trial.run(&format!("git --git-dir=$T/evidence/x.git rev-list --objects {}", wanted[0].1));
    }
}

#[test]
fn what_is_unsound_is_not_taken() {
    let trial = Trial::new();
    // A tree that would write into a repository's own folder.
    trial.run(
        "b=$(echo x | git hash-object -w --stdin); \
         t=$(printf '100644 blob %s\\t.git\\n' $b | git mktree); \
         c=$(git commit-tree -m evil -p HEAD $t); git update-ref refs/heads/issue-1 $c",
    );
    let result = keep(&trial, OF, &[(Slot::Tip, trial.oid("refs/heads/issue-1"))]);
    let Err(LookError::Clone(Unreadable::Hostile(why))) = result else { panic!("{result:?}") };
    assert!(why.contains("hasDotgit") || why.contains("fsck"), "{why}");
    assert_eq!(listed(&trial), Vec::<String>::new());
}

#[test]
fn what_the_mirror_lost_comes_from_the_clone() {
    let trial = Trial::new();
    trial.run("c x 1");
    let wanted = [(Slot::Tip, trial.oid("HEAD"))];
    let known = [trial.oid("HEAD~1"), trial.oid("HEAD~2")];
    trial.run("rm -rf $T/mirror.git/objects; git init -q --bare $T/mirror.git");
    let nowhere = "0123456789012345678901234567890123456789".parse().unwrap();
    for known in [&known[..], &[nowhere], &[]] {
        let kept =
            trial.evidence().keep(&trial.git(), &trial.clone(), OF, &wanted, known, Replacing::All);
        assert_eq!(kept.unwrap().len(), 1);
        let tip = &wanted[0].1;
        trial.run(&format!("git --git-dir=$T/evidence/x.git rev-list --objects {tip}"));
        trial.run("rm -rf $T/evidence");
    }
}

#[test]
fn many_packs_become_one() {
    let trial = Trial::new();
    for number in 0..3 {
        trial.run(&format!("c x {number}"));
        keep(&trial, AttemptOf { attempt: number, ..OF }, &[(Slot::Tip, trial.oid("HEAD"))])
            .unwrap();
    }
    let packs = || trial.run("ls $T/evidence/x.git/objects/pack/*.pack").lines().count();
    assert_eq!(packs(), 3);
    trial.evidence().tidy_from(&trial.git(), 4).unwrap();
    assert_eq!(packs(), 3);
    trial.evidence().tidy_from(&trial.git(), 3).unwrap();
    assert_eq!(packs(), 1);
    let tip = trial.oid("HEAD");
    trial.run(&format!("git --git-dir=$T/evidence/x.git rev-list --objects {tip}"));
}
