//! Addresses of repositories: what of them may be shown, and what may be talked over them.

/// The same text without the user and password, or the token, that an address may hold:
/// `https://user:password@host`, `https://host/?private_token=x`.
pub(crate) fn without_passwords(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        masked.push_str(before);
        let is_end = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '<' | '>' | '`');
        let (address, beyond) = after.split_at(after.find(is_end).unwrap_or(after.len()));
        let (authority, path) =
            address.split_at(address.find(['/', '?', '#']).unwrap_or(address.len()));
        match authority.rsplit_once('@') {
            // The user of an ssh address is no secret.
            Some((user, _)) if !user.contains(':') && before.ends_with("ssh://") => {
                masked.push_str(authority);
            }
            Some((_, host)) => masked.push_str(&format!("…@{host}")),
            None => masked.push_str(authority),
        }
        match path.split_once('?') {
            Some((path, _)) => masked.push_str(&format!("{path}?…")),
            None => masked.push_str(path),
        }
        rest = beyond;
    }
    masked.push_str(rest);
    masked
}

/// The same address without what is secret in it: for whoever is told where a repository is. The
/// user of an ssh address stays, as it is needed and no secret.
pub(crate) fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = match authority.rsplit_once('@') {
        Some((login, host)) if scheme.ends_with("ssh") => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{user}@{host}")
        }
        Some((_, host)) => host.into(),
        None => authority.into(),
    };
    let path = path.split('?').next().unwrap_or_default();
    format!("{scheme}://{authority}{path}")
}

/// Transports that an address may lead to, itself or by a user's `insteadOf`. Another one is
/// allowed where the address names it; `ext` runs commands, and never is.
pub(crate) fn transports(url: &str) -> String {
    const USUAL: &str = "file:git:http:https:ssh";
    let scheme = url.split_once("::").or_else(|| url.split_once("://")).map(|(scheme, _)| scheme);
    let is_plain = |scheme: &&str| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    match scheme.filter(is_plain) {
        Some("ext" | "fd") | None => USUAL.into(),
        Some(scheme) if USUAL.split(':').any(|usual| usual == scheme) => USUAL.into(),
        Some(scheme) => format!("{USUAL}:{scheme}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_repeated() {
        for (text, masked) in [
            (
                "fatal: unable to access 'https://me:secret@h/o/r.git/': no",
                "fatal: unable to access 'https://…@h/o/r.git/': no",
            ),
            ("https://token@h/x and https://a:b@i/y", "https://…@h/x and https://…@i/y"),
            ("'https://a:p@ss@h:8443/x'", "'https://…@h:8443/x'"),
            ("https://h/x?private_token=abc'", "https://h/x?…'"),
            ("https://h?token=abc", "https://h?…"),
            ("see https://h/a@b", "see https://h/a@b"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("ssh://git:pw@h/x", "ssh://…@h/x"),
            ("git@h:o/r", "git@h:o/r"),
            ("://", "://"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_passwords(text), masked);
        }
    }

    #[test]
    fn transports_of_an_address() {
        for (url, added) in [
            ("https://h/o/r", ""),
            ("git@h:o/r", ""),
            ("/srv/r", ""),
            ("file:///srv/r", ""),
            ("codecommit::eu://r", ":codecommit"),
            ("persistent-https://h/r", ":persistent-https"),
            ("ext::sh -c x", ""),
            ("fd::3", ""),
            ("a:ext::x", ""),
            ("://x", ""),
        ] {
            assert_eq!(transports(url), format!("file:git:http:https:ssh{added}"), "{url}");
        }
    }

    #[test]
    fn addresses_for_everybody() {
        for (url, expected) in [
            ("https://me:secret@h:8443/o/r.git", "https://h:8443/o/r.git"),
            ("https://token@h/o/r", "https://h/o/r"),
            ("https://a:p@ss@h/o/r", "https://h/o/r"),
            ("https://h/o/r?private_token=x", "https://h/o/r"),
            ("https://h/o/r@2", "https://h/o/r@2"),
            ("ssh://git:pw@h:22/o/r", "ssh://git@h:22/o/r"),
            ("git+ssh://git@h/o/r", "git+ssh://git@h/o/r"),
            ("git@h:o/r", "git@h:o/r"),
            ("/srv/a@b", "/srv/a@b"),
            ("file:///srv/r", "file:///srv/r"),
        ] {
            assert_eq!(without_login(url), expected);
        }
    }
}
