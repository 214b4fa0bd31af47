//! Changes, and which of them are new.

use super::*;
use crate::git::trial::Trial;

/// `before | after | what is new`.
const TABLE: [(&str, &str, &str); 17] = [
    (":", ":", ""),
    (":", "echo 1 > README", "README"),
    ("echo 1 > README", ":", ""),
    ("echo 1 > README", "touch -d tomorrow README", ""),
    ("echo 1 > README", "git add README", ""),
    ("echo 1 > README", "echo 2 > README", "README"),
    ("echo 1 > README", "git checkout README", ""),
    ("echo 1 > README", "echo 1 > new", "new"),
    (":", "chmod +x README", "README"),
    ("echo 1 > README", "chmod +x README", "README"),
    (":", "rm README", "README"),
    (":", "rm README; ln -s x README", "README"),
    (":", "mkdir -p new/a; echo 1 > new/a/b", "new/"),
    ("mkdir -p new/a; echo 1 > new/a/b", "echo 1 > new/a/c", "new/"),
    ("mkdir -p new/a; echo 1 > new/a/b", ":", ""),
    (":", "echo 1 > x.ignored", ""),
    (":", "c x 1", ""),
];

fn look(trial: &Trial) -> Changes {
    let refs = CloneRefs::read(&trial.clone()).unwrap();
    changes(&trial.git(), &trial.looks(), &trial.clone(), &refs).unwrap()
}

#[test]
fn only_what_is_new_is_a_change() {
    for (before, after, expected) in TABLE {
        let trial = Trial::new();
        trial.run(before);
        let first = look(&trial);
        trial.run(after);
        let second = look(&trial);
        let since = second.since(&first);
        assert_eq!(since.paths.join(" "), expected, "{before}; {after}");
        assert_eq!(since.count, u64::from(!expected.is_empty()), "{before}; {after}");
    }
}

/// Line endings and filters make files look changed that nobody touched.
#[test]
fn phantoms_are_no_changes() {
    let trial = Trial::new();
    trial.run(
        "printf 'a\\r\\nb\\r\\n' > crlf.txt; git add crlf.txt; git commit -qm crlf; \
         echo '*.txt text eol=lf' > .gitattributes; git add .gitattributes; git commit -qm eol; \
         touch -d tomorrow crlf.txt; git config filter.f.clean 'tr o 0'; \
         echo 'README filter=f' > .git/info/attributes; git add --renormalize README; \
         git commit -qm filtered; touch -d tomorrow README",
    );
    let first = look(&trial);
    let paths: Vec<&str> = first.entries.iter().map(|change| change.path.as_str()).collect();
    assert!(paths.contains(&"crlf.txt"), "{paths:?}");
    trial.run("c x 1; touch crlf.txt");
    assert_eq!(look(&trial).since(&first).count, 0);
    trial.run("echo more >> crlf.txt");
    assert_eq!(look(&trial).since(&first).paths, ["crlf.txt"]);
}

#[test]
fn many_changes_are_counted() {
    let trial = Trial::new();
    let count = limits::CHANGES_KEPT_MAX as u64 + 10;
    trial.run(&format!("seq {count} | xargs touch"));
    let first = look(&trial);
    assert_eq!((first.count, first.entries.len()), (count, limits::CHANGES_KEPT_MAX));
    assert_eq!(
        first.since(&Changes { entries: Vec::new(), count: 0, fingerprint: String::new() }).count,
        count
    );
    assert_eq!(look(&trial).since(&first).count, 0);
    trial.run("touch zz1 zz2");
    assert_eq!(look(&trial).since(&first).count, 2);
    trial.run("rm zz1 zz2 999999 510 2>/dev/null || true; touch zz3");
    assert_eq!(look(&trial).since(&first).count, 1);
}

#[test]
fn a_list_of_changes_is_read() {
    let listing = b"1 .M N... 100644 100644 100644 aa aa a b c\0? new/\0u UU N... 1 2 3 4 a b c x y\0# junk\0";
    let read: Vec<_> = parse_status(listing).collect();
    assert_eq!(
        read,
        [
            (ChangeKind::Changed, b"a b c".as_slice()),
            (ChangeKind::Untracked, b"new/"),
            (ChangeKind::Unmerged, b"x y"),
        ]
    );
}
