//! Whether the git that is found is one that kugetsu can work with.

/// What `merge-tree --write-tree` came with: on an older one it answers another question. Everything
/// else that is used is older.
const NEEDED: (u32, u32) = (2, 38);

/// Refuses a git that is too old, by what `git --version` says of it. What does not look like a
/// version is not known to be too old.
pub(crate) fn check_git(said: &str) -> Result<(), String> {
    match parse(said) {
        Some(found) if found < NEEDED => {
            let (major, minor) = NEEDED;
            let version = said.trim().strip_prefix("git version ").unwrap_or(said.trim());
            Err(format!("git {version} is too old: kugetsu needs git {major}.{minor} or newer"))
        }
        Some(_) | None => Ok(()),
    }
}

/// `git version 2.39.3 (Apple Git-146)`: major and minor.
fn parse(said: &str) -> Option<(u32, u32)> {
    let version = said.trim().strip_prefix("git version ")?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_git() {
        for (said, expected) in [
            ("git version 2.47.3\n", Ok(())),
            ("git version 2.38.0", Ok(())),
            ("git version 2.38.0-rc1", Ok(())),
            ("git version 2.39.3 (Apple Git-146)", Ok(())),
            ("git version 2.45.1.windows.1", Ok(())),
            ("git version 2.100", Ok(())),
            ("git version 3.0.0", Ok(())),
            ("git version 10.1", Ok(())),
            ("git version 2.37.8", Err("git 2.37.8 is too old: kugetsu needs git 2.38 or newer")),
            ("git version 1.9.1\n", Err("git 1.9.1 is too old: kugetsu needs git 2.38 or newer")),
            (
                "git version 2.24.3 (Apple Git-128)",
                Err("git 2.24.3 (Apple Git-128) is too old: kugetsu needs git 2.38 or newer"),
            ),
            ("git version v-next", Ok(())),
            ("git version 2", Ok(())),
            ("hub version 1.0", Ok(())),
            ("", Ok(())),
        ] {
            assert_eq!(check_git(said), expected.map_err(String::from), "{said:?}");
        }
    }
}
