//! Verdicts on real repositories: what the agent's script does, and what its work is.

use super::*;
use crate::git::evidence::{AttemptOf, Replacing, Slot};
use crate::git::trial::{Trial, in_parallel};
use crate::job::JobId;

/// What an agent does in a clone, in one line for each trial:
/// `name | what was there before | what the agent does | what its work is`.
///
/// `new N`, `updated` or `nothing`; `rewritten` if the tip of before is not on the branch; `at
/// NAME N` for work elsewhere, `ahead` if the branch can be moved there; `stash N`.
const TABLE: &str = r#"
commit | | c x 1 | new 1
two commits | | c x 1; c y 2 | new 2
nothing | | : | nothing
pull | | up u 1; git pull -q origin main | nothing
pull into a merge | up u 1; git fetch -q; git merge -q --no-ff origin/main | up v 1; git pull -q --no-rebase --no-edit origin main | nothing
merge of a newer base without work | | up u 1; git fetch -q; git merge -q --no-ff --no-edit origin/main | nothing
rebase of earlier work | c x 1 | up u 1; git fetch -q; git rebase -q origin/main | updated rewritten
merge of a newer base into earlier work | c x 1 | up u 1; git fetch -q; git merge -q --no-edit origin/main | updated
rebase with new work | c x 1 | up u 1; git fetch -q; git rebase -q origin/main; c y 1 | new 1 rewritten
merge with new work | c x 1 | up u 1; git fetch -q; git merge -q --no-edit origin/main; c y 1 | new 1
rebase near earlier work | c src/a.txt 1 2 3 4 x 6 7 8 9 | up src/a.txt 0 1 2 3 4 5 6 7 8 9; git fetch -q; git rebase -q origin/main | updated rewritten
amended date | c x 1 | git commit -q --amend --no-edit --date=2001-01-01T00:00:00Z | nothing rewritten
amended message | c x 1 | git commit -q --amend -m other | nothing rewritten
amended author | c x 1 | git commit -q --amend --no-edit --author='A <a@b.c>' | nothing rewritten
amended contents | c x 1 | echo 2 >> x; git commit -qa --amend --no-edit | new 1 rewritten
empty commit | | git commit -q --allow-empty -m empty | nothing
empty commit after earlier work | c x 1 | git commit -q --allow-empty -m empty | nothing
an empty and a real one | | git commit -q --allow-empty -m empty; c x 1 | new 1
commit and its revert | | c x 1; git revert --no-edit HEAD >/dev/null | nothing
revert of earlier work | c x 1 | git revert --no-edit HEAD >/dev/null | new 1
revert of one of two | c x 1; c y 1 | git revert --no-edit HEAD >/dev/null | new 1
revert of what the base has | | git revert --no-edit HEAD~1 >/dev/null | new 1
the same reverted once more | up u 1; up u 2; up u 1; git fetch -q; git reset -q --hard origin/main; c u 2 | git revert --no-edit HEAD >/dev/null | new 1
what the base once took back | up u 1 2; up u 1; git fetch -q; git reset -q --hard origin/main | c u 1 2 | new 1
squash of earlier work | c x 1; c y 1 | git reset -q --soft HEAD~2; git commit -qm both | nothing rewritten
squash and a newer base | c x 1; c y 1 | git reset -q --soft HEAD~2; git commit -qm both; up u 1; git fetch -q; git rebase -q origin/main | updated rewritten
another order | c x 1; c y 1 | t=$(git rev-parse HEAD); git reset -q --hard HEAD~2; git cherry-pick $t $t~1 >/dev/null | nothing rewritten
reset | c x 1 | git reset -q --hard HEAD~1 | nothing rewritten
reset and an empty commit | c x 1 | git reset -q --hard HEAD~1; git commit -q --allow-empty -m e | nothing rewritten
reset and something else | c x 1 | git reset -q --hard HEAD~1; c y 1 | new 1 rewritten
cherry-pick from the base | | up u 1; git fetch -q; git cherry-pick origin/main >/dev/null | nothing
cherry-pick of two from the base | | up u 1; up v 1; git fetch -q; git cherry-pick HEAD..origin/main >/dev/null | nothing
cherry-pick of two as one | | up u 1; up v 1; git fetch -q; git cherry-pick -n HEAD..origin/main; git commit -qm both | nothing
cherry-pick of one of two | | up u 1; up v 1; git fetch -q; git cherry-pick origin/main~1 >/dev/null | nothing
cherry-pick and work | | up u 1; git fetch -q; git cherry-pick origin/main >/dev/null; c x 1 | new 1
cherry-pick from another branch | | upon other o 1; git fetch -q; git cherry-pick origin/other >/dev/null | nothing
merge of another branch | | upon other o 1; git fetch -q; git merge -q --no-ff --no-edit origin/other | nothing
merge of another branch into work | c x 1 | upon other o 1; git fetch -q; git merge -q --no-ff --no-edit origin/other | nothing
merge with conflicts settled | c src/a.txt 1 2 3 4 x 6 7 8 9 | up src/a.txt 1 2 3 4 y 6 7 8 9; git fetch -q; merge origin/main; printf '%s\n' 1 2 3 4 xy 6 7 8 9 > src/a.txt; git commit -qam merged | new 1
merge with something slipped in | c x 1 | up u 1; git fetch -q; git merge -q --no-commit --no-ff origin/main; echo evil > e; git add e; git commit -qm merged | new 1
merge that keeps ours | c x 1 | up u 1; git fetch -q; git merge -q -s ours --no-edit origin/main | nothing
merge of three | c x 1 | upon other o 1; up u 1; git fetch -q; git merge -q --no-edit origin/main origin/other | updated
work after a squash merge | c x 1; up x 1 | git fetch -q; git merge -q --no-edit origin/main; c y 1 | new 1
rebase after a squash merge | c x 1; up x 1 | git fetch -q; git rebase -q origin/main 2>/dev/null | nothing rewritten
merge after a squash merge | c x 1; up x 1; up u 1 | git fetch -q; git merge -q --no-edit origin/main | updated
merge of the same | c x 1; up x 1 | git fetch -q; git merge -q --no-edit origin/main | nothing
pushed by the agent | | c x 1; git push -q origin issue-1 | new 1
pushed by the agent to another branch | | c x 1; git push -q origin HEAD:other | new 1
pushed to an address | | c x 1; git push -q $T/origin.git issue-1 | new 1
pushed to main | | c x 1; git push -q origin HEAD:main | new 1
pushed and pulled | | c x 1; git push -q origin issue-1; git pull -q origin issue-1 | new 1
forced | c x 1; git push -q origin issue-1 | git commit -q --amend -m other; echo 2 > y; git add y; git commit -qm y; git push -qf origin issue-1 | new 1 rewritten
a reviewer's commits pulled | git push -q origin issue-1 | upon issue-1 r 1; git pull -q origin issue-1 | nothing
a reviewer's commits and work | git push -q origin issue-1 | upon issue-1 r 1; git pull -q origin issue-1; c x 1 | new 1
detached | | git checkout -q --detach; c x 1 | nothing at HEAD 1 ahead
on main | | git checkout -q main; c x 1 | nothing at refs/heads/main 1 ahead
on a branch of its own | | git checkout -q -b mine; c x 1; git checkout -q issue-1 | nothing at refs/heads/mine 1 ahead
on a branch beside work | c y 1 | git checkout -q -b mine origin/main; c x 1 | nothing at refs/heads/mine 1
on both | | git branch mine; c y 1; git checkout -q mine; c x 1 | new 1 at refs/heads/mine 1
a backup of the branch | c x 1 | git branch backup; up u 1; git fetch -q; git rebase -q origin/main | updated rewritten
a backup of new work | | c x 1; git branch backup; git commit -q --amend -m other | new 1
pulled main | | up u 1; git checkout -q main; git pull -q origin main | nothing
pushed from a detached HEAD | | git checkout -q --detach; c x 1; git push -q origin HEAD:refs/heads/other; git checkout -q issue-1 | nothing at refs/remotes/origin/other 1 ahead
in an added worktree | | git worktree add -q --detach $T/added; cd $T/added; c x 1 | nothing at worktrees/added/HEAD 1 ahead
the branch renamed | | c x 1; git branch -m renamed | nothing rewritten at refs/heads/renamed 1 ahead
an orphan branch | | git checkout -q --orphan mine; git rm -rqf .; c x 1 | nothing at refs/heads/mine 1
a new root with the same files | c x 1 | git checkout -q --orphan mine; git commit -qm all; git branch -f issue-1; git checkout -q issue-1 | nothing rewritten
a new root and work | | git checkout -q --orphan mine; git commit -qm all; git branch -f issue-1; git checkout -q issue-1; git branch -D mine >/dev/null; c x 1 | new 2 rewritten
stash | | echo 1 > README; git stash -q | nothing stash 1
stash of what is untracked | | echo 1 > new; git stash -q -u | nothing stash 1
stash of what is staged | | echo 1 > README; git add README; git stash -q | nothing stash 1
stash of what was staged and taken back | | echo 1 > README; git add README; git show HEAD:README > README; git stash -q | nothing stash 1
two stashes | | echo 1 > README; git stash -q; echo 2 > README; git stash -q | nothing stash 2
a stash of before | echo 1 > README; git stash -q | : | nothing
a stash dropped | | echo 1 > README; git stash -q; git stash drop -q | nothing
mode | | chmod +x README; git commit -qam mode | new 1
mode there and back | chmod +x README; git commit -qam mode | chmod -x README; git commit -qam mode | new 1
binary | | printf 'a\0b' > b; git add b; git commit -qm b | new 1
binary on a newer base | printf 'a\0b' > b; git add b; git commit -qm b | up u 1; git fetch -q; git rebase -q origin/main | updated rewritten
binary of another kind | printf 'a\0b' > b; git add b; git commit -qm b | up u 1; git fetch -q; git reset -q --hard origin/main; printf 'a\0c' > b; git add b; git commit -qm b | new 1 rewritten
rename | | git mv README LIES; git commit -qm renamed | new 1
rename on a newer base | git mv README LIES; git commit -qm renamed | up u 1; git fetch -q; git rebase -q origin/main | updated rewritten
deletion | | git rm -q README; git commit -qm gone | new 1
line endings | | printf 'one\r\n' > crlf; git add crlf; git commit -qm crlf | new 1
other line endings | printf 'one\r\n' > crlf; git add crlf; git commit -qm crlf | up u 1; git fetch -q; git reset -q --hard origin/main; printf 'one\n' > crlf; git add crlf; git commit -qm crlf | new 1 rewritten
other blanks | c x 'a b' | up u 1; git fetch -q; git reset -q --hard origin/main; c x 'a  b' | new 1 rewritten
submodule | git -c protocol.file.allow=always submodule add -q ../origin.git sub 2>/dev/null; git commit -qm sub | (cd sub; c x 1); git commit -qam bump | new 1
a link | | ln -s /etc/passwd link; git add link; git commit -qm link | new 1
an odd name | | c "$(printf 'a\nb "c" \t\303\244')" 1 | new 1
an odd name on a newer base | c "$(printf 'a\nb "c" \t\303\244')" 1 | up u 1; git fetch -q; git rebase -q origin/main | updated rewritten
a name like an id | | c 0123456789012345678901234567890123456789 1 | new 1
a name like an id on a newer base | c 0123456789012345678901234567890123456789 1; c x 1 | up u 1; git fetch -q; git rebase -q origin/main | updated rewritten
a tag called origin/main | git tag origin/main | c x 1; git tag main | new 1
a branch called origin/main | | git branch origin/main; c x 1 | new 1
a large file | | seq 400000 > large; git add large; git commit -qm large | new 1
a large file on a newer base | seq 400000 > large; git add large; git commit -qm large | up u 1; git fetch -q; git rebase -q origin/main | updated rewritten
an unmerged merge | c src/a.txt x | c y 1; up src/a.txt y; git fetch -q; merge origin/main | new 1
"#;

/// How work is judged whose job had earlier attempts.
const LATER_ATTEMPTS: &str = r#"
earlier commits of the job | | c x 1 | : | new 1
on a newer base | | c x 1 | up u 1; git fetch -q; git rebase -q origin/main | new 1
a branch begun again | c w 1 | c x 1 | git reset -q --hard origin/main; c y 1 | new 1 rewritten
nothing in any | c w 1 | : | : | nothing
taken back again | | c x 1 | git revert --no-edit HEAD >/dev/null | nothing
"#;

fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| line.split('|').map(str::trim).collect())
}

/// Keeps the tips of a clone and gives them.
fn keep_before(trial: &Trial, attempt: u32) -> (Oid, Vec<Oid>) {
    let known: Vec<Oid> = trial.fetch().into_iter().map(|(_, oid)| oid).collect();
    let clone = CloneRefs::read(&trial.clone()).unwrap();
    let of = AttemptOf { job: JobId(7), attempt };
    let branch: BranchName = "issue-1".parse().unwrap();
    let before = clone.branch(&branch).unwrap().clone();
    let mut tips: Vec<Oid> = clone.tips().into_iter().map(|tip| tip.oid).collect();
    tips.sort();
    tips.dedup();
    let mut wanted = vec![(Slot::BeforeBranch, before.clone())];
    wanted.extend((0..).zip(&tips).map(|(number, oid)| (Slot::Before(number), oid.clone())));
    let evidence = trial.evidence();
    let kept = evidence.keep(&trial.git(), &trial.clone(), of, &wanted, &known, Replacing::All);
    assert_eq!(kept.unwrap().len(), wanted.len());
    (before, tips)
}

fn judge_now(
    trial: &Trial,
    attempt: u32,
    before_first: &Oid,
    tips: &[Oid],
) -> Result<String, LookError> {
    let git = trial.git();
    let evidence = trial.evidence();
    let remote = trial.fetch();
    let clone = CloneRefs::read(&trial.clone()).unwrap();
    let branch: BranchName = "issue-1".parse().unwrap();
    let of = AttemptOf { job: JobId(7), attempt };
    let before = evidence.before(of).unwrap();
    let before = &before.iter().find(|kept| kept.slot == Slot::BeforeBranch).unwrap().oid;
    let known = known_tips(&branch, before, &remote, &clone);
    let elsewhere = clone.elsewhere(&branch);
    let after = clone.branch(&branch).cloned();
    let mut wanted: Vec<(Slot, Oid)> = after.iter().map(|o| (Slot::Tip, o.clone())).collect();
    let others = elsewhere.iter().map(|reference| &reference.oid).chain(&clone.stashes);
    wanted.extend((0..).zip(others).map(|(number, oid)| (Slot::Elsewhere(number), oid.clone())));
    let in_mirror: Vec<Oid> = remote.iter().map(|(_, oid)| oid.clone()).collect();
    evidence.keep(&git, &trial.clone(), of, &wanted, &in_mirror, Replacing::After)?;
    let main = remote.iter().find(|(name, _)| name.as_str() == "main").map(|(_, oid)| oid).unwrap();
    // A base that the agent pushed is its own work: what was before is the base.
    let base = if clone.pushed.contains(main) { &tips[0] } else { main };
    let question = Question {
        after: after.as_ref(),
        before,
        before_first: Some(before_first),
        base,
        known: &known,
        before_tips: tips,
        elsewhere: &elsewhere,
        stashes: &clone.stashes,
    };
    Ok(in_words(&judge(&git, &evidence, &question)?))
}

fn in_words(work: &Work) -> String {
    let mut words = match work.on_branch.outcome {
        BranchOutcome::Nothing => "nothing".to_string(),
        BranchOutcome::Updated => "updated".into(),
        BranchOutcome::New(count) => format!("new {count}"),
    };
    if work.on_branch.is_rewritten {
        words.push_str(" rewritten");
    }
    for elsewhere in &work.elsewhere {
        words.push_str(&format!(" at {} {}", elsewhere.name, elsewhere.commits));
        words.push_str(if elsewhere.is_ahead_of_branch { " ahead" } else { "" });
    }
    if !work.stashes.is_empty() {
        words.push_str(&format!(" stash {}", work.stashes.len()));
    }
    words
}

fn check(row: &[&str]) -> Result<(), String> {
    let [name, before, attempts @ .., expected] = row else { panic!("{row:?}") };
    let trial = Trial::new();
    trial.run(before);
    let (mut first, mut said) = (None, String::new());
    for (attempt, script) in (1..).zip(attempts) {
        let (before, tips) = keep_before(&trial, attempt);
        let first = first.get_or_insert(before);
        trial.run(script);
        said =
            judge_now(&trial, attempt, first, &tips).unwrap_or_else(|error| format!("{error:?}"));
        assert_eq!(trial.canary(), None);
    }
    match said == *expected {
        true => Ok(()),
        false => Err(format!("{name}: {said}, expected {expected}")),
    }
}

fn check_all(table: &str) {
    let rows: Vec<Vec<&str>> = rows(table).collect();
    let wrong = in_parallel(&rows, |row| check(row).err());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn verdicts() {
    check_all(TABLE);
}

#[test]
fn verdicts_of_later_attempts() {
    check_all(LATER_ATTEMPTS);
}

/// A tree of ten thousand million paths, in ten objects.
const BOMB: &str = "
    o=$(echo x | git hash-object -w --stdin); t=blob; m=100644
    for level in 1 2 3 4 5 6 7 8 9 10; do
        o=$(for n in 0 1 2 3 4 5 6 7 8 9; do printf '%s %s %s\\tf%s\\n' $m $t $o $n; done | git mktree)
        t=tree; m=040000
    done
    bomb() { git update-ref refs/heads/issue-1 $(git commit-tree -m bomb -p HEAD $o); }
    side() { git update-ref refs/heads/mine $(git commit-tree -m bomb -p HEAD $o); }
    many() { git fast-import --quiet --force <<EOF
$(seq 5001 | while read n; do printf 'commit refs/heads/issue-1\\ncommitter a <a@b> %s +0000\\ndata 1\\nx\\n' $n; test $n != 1 || echo \"from $(git rev-parse HEAD)\"; printf 'M 644 inline f\\ndata <<E\\n%s\\nE\\n\\n' $n; done)
EOF
    }
";

/// What is too large to be compared is said to be, and nothing is guessed.
#[test]
fn what_is_too_large_is_not_judged() {
    for script in ["bomb", "c x 1; bomb", "side", "bomb; up u 1; git fetch -q", "many"] {
        let trial = Trial::new();
        let (first, tips) = keep_before(&trial, 1);
        trial.run(&format!("{BOMB}\n{script}"));
        let said = judge_now(&trial, 1, &first, &tips);
        let is_too_large =
            matches!(said, Err(LookError::Clone(crate::git::folder::Unreadable::TooLarge(_))));
        assert!(is_too_large, "{script}: {said:?}");
    }
}

/// One that was there before is not compared either.
#[test]
fn what_was_too_large_before_holds_nobody_up() {
    let trial = Trial::new();
    trial.run(&format!("{BOMB}\nbomb"));
    let (first, tips) = keep_before(&trial, 1);
    trial.run(
        "up u 1; git fetch -q; t=$(git mktree </dev/null); \
         c=$(git commit-tree -m m -p issue-1 -p origin/main $t); \
         git update-ref refs/heads/issue-1 $c",
    );
    let said = judge_now(&trial, 1, &first, &tips);
    assert!(said.is_ok() || matches!(said, Err(LookError::Clone(_))), "{said:?}");
}

/// `branch of the remote | before | fetched by the clone | pushed by the clone | known`.
#[test]
fn what_others_have() {
    let oid = |digit: char| -> Oid { digit.to_string().repeat(40).parse().unwrap() };
    let oids = |digits: &str| digits.chars().map(oid).collect::<BTreeSet<Oid>>();
    for (name, at, before, fetched, pushed, expected) in [
        ("main", 'a', 'b', "", "", "a"),
        ("main", 'a', 'b', "", "a", ""),
        ("main", 'a', 'b', "ac", "", "ac"),
        ("main", 'a', 'b', "ac", "a", "c"),
        ("issue-1", 'a', 'a', "", "", "a"),
        ("issue-1", 'a', 'b', "", "", ""),
        ("issue-1", 'a', 'b', "a", "", "a"),
        ("issue-1", 'a', 'b', "a", "a", ""),
        ("issue-1", 'a', 'a', "", "a", ""),
        ("issue-10", 'a', 'b', "", "", "a"),
        ("main", 'a', 'b', "0", "", "a"),
    ] {
        let clone = CloneRefs {
            head: crate::git::refs::Head::Detached(oid('1')),
            refs: Vec::new(),
            stashes: Vec::new(),
            worktrees: Vec::new(),
            unfinished: None,
            fetched: oids(fetched),
            pushed: oids(pushed),
        };
        let remote = [(name.parse().unwrap(), oid(at))];
        let known = known_tips(&"issue-1".parse().unwrap(), &oid(before), &remote, &clone);
        let row = format!("{name} {at} {before} {fetched} {pushed}");
        assert_eq!(known, oids(expected).into_iter().collect::<Vec<_>>(), "{row}");
    }
}

#[test]
fn a_diff_is_text_from_what_was_kept() {
    let trial = Trial::new();
    let (base, tips) = keep_before(&trial, 1);
    trial.run(
        "printf '#!/bin/sh\\ntouch %s/canary\\n' $T > $T/f; chmod +x $T/f; \
         git config diff.f.textconv $T/f; git config diff.f.command $T/f; \
         c .gitattributes '* diff=f'; c x 1",
    );
    judge_now(&trial, 1, &base, &tips).unwrap();
    let tip = trial.oid("HEAD");
    trial.run("cd $T; rm -rf clone; mkdir clone");
    let text = |kind| {
        let text = diff(&trial.git(), &trial.evidence(), &base, &tip, kind).unwrap();
        String::from_utf8(text).unwrap()
    };
    assert!(text(DiffKind::Text).contains("\n+++ b/x\n@@ -0,0 +1 @@\n+1\n"));
    assert!(text(DiffKind::Stat).contains("2 files changed, 2 insertions(+)"));
    assert_eq!(trial.canary(), None);
    assert_eq!(fork(&trial.git(), &trial.evidence(), &base, &tip).unwrap(), Some(base));
}
