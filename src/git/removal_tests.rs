//! Folders that are hard to remove.

use super::*;

fn scene(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = crate::process::command("sh");
    let status = shell.args(["-e", "-c", script]).current_dir(folder.path()).status().unwrap();
    assert!(status.success(), "{script}");
    folder
}

#[test]
fn a_folder_goes_and_what_it_points_to_stays() {
    for script in [
        "mkdir c",
        "mkdir c; ln -s ../kept c/l; ln -s ../kept/f c/m; ln -s / c/root",
        "mkdir -p c/a/b; touch c/a/b/x; chmod 000 c/a/b c/a",
        "mkdir c; mkfifo c/p; touch c/f; chmod 444 c/f; chmod 555 c",
        "mkdir c; cd c; seq 1 300 | xargs touch; mkdir d; cd d; seq 1 20 | xargs mkdir",
        "mkdir c; cd c; i=0; while test $i -lt 300; do mkdir deep; touch f; cd deep; i=$((i+1)); done",
        "mkdir c; touch \"c/$(printf 'a\\nb\\033')\"; mkdir c/.removing-deep-1",
    ] {
        let folder = scene(&format!("mkdir kept; touch kept/f\n{script}"));
        let clone = folder.path().join("c");
        assert_eq!(remove_clone(&clone), Ok(()), "{script}");
        assert!(folder.path().join("kept/f").exists(), "{script}");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{script}: {left:?}");
        assert_eq!(remove_clone(&clone), Ok(()));
    }
}

#[test]
fn what_is_no_folder_is_refused() {
    for (script, words) in
        [("mkdir kept; touch kept/f; ln -s kept c", "symbolic link"), ("touch c", "no folder")]
    {
        let folder = scene(script);
        let clone = folder.path().join("c");
        assert!(remove_clone(&clone).unwrap_err().contains(words), "{script}");
        assert!(clone.symlink_metadata().is_ok());
    }
}

#[test]
fn an_interrupted_removal_is_finished() {
    let folder = scene("mkdir -p .removing-0-c/a/b other; touch .removing-0-c/a/b/x; mkdir c");
    assert_eq!(remove_clone(&folder.path().join("c")), Ok(()));
    assert!(folder.path().join(".removing-0-c").exists());
    assert_eq!(finish_removals(folder.path()), Vec::<String>::new());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
