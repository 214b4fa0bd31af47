//! Passwords in addresses: what stands between `://` and `@`.

use std::ops::Range;

use crate::job::limits;

/// Over these, a name alone may be a token: `https://TOKEN@host`.
const WEB: [&str; 4] = ["http", "https", "ws", "wss"];

/// The places of a text that are passwords.
pub(super) fn find(text: &str, spans: &mut Vec<Range<usize>>) {
    spans.extend(text.match_indices("://").filter_map(|(at, _)| password_at(text, at)));
}

/// The passwords of an address, decoded.
pub(super) fn passwords(text: &str) -> impl Iterator<Item = String> {
    text.match_indices("://").filter_map(|(at, separator)| {
        let span = password_at(text, at)?;
        let is_web = span.start == at + separator.len();
        let whole = &text[span];
        let (name, password) = match whole.split_once(':') {
            Some(parts) if is_web => parts,
            Some(_) | None if is_web => (whole, ""),
            Some(_) | None => ("", whole),
        };
        // A name alone is somebody's name, unless it is as long as a token.
        let is_token = matches!(password, "" | "x-oauth-basic");
        match is_token {
            false => Some(decoded(password)),
            true => (name.len() >= limits::TOKEN_BYTES_MIN).then(|| decoded(name)),
        }
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let encoded = match behind {
            [high, low, ..] if *first == b'%' => {
                let digits = [*high, *low];
                std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok())
            }
            _ => None,
        };
        bytes.push(encoded.unwrap_or(*first));
        rest = if encoded.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.into())
}

/// The text without what stands before the host, if a password may be in it.
pub(super) fn without_password(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut copied = 0;
    for (at, separator) in text.match_indices("://") {
        let authority = at + separator.len();
        let Some(span) = password_at(text, at).filter(|span| span.end < text.len()) else {
            continue;
        };
        // With a name before the password, the name stays: `ssh://git:password@host`.
        let end = if span.start == authority { span.end + 1 } else { span.end };
        let start = if span.start == authority { span.start } else { span.start - 1 };
        left.push_str(&text[copied..start]);
        copied = end;
    }
    left.push_str(&text[copied..]);
    left
}

/// What is secret behind a `://` at this place: name and password on the web, the password alone
/// elsewhere.
fn password_at(text: &str, at: usize) -> Option<Range<usize>> {
    let start = at + "://".len();
    let rest = &text[start..];
    let rest = &rest[..super::boundary_before(rest, limits::ADDRESS_BYTES_MAX)];
    let is_end = |c: char| c.is_whitespace() || c.is_control() || "\"'<>`|".contains(c);
    let word = &rest[..rest.find(is_end).unwrap_or(rest.len())];
    let authority = &word[..word.find(['/', '?', '#', '\\']).unwrap_or(word.len())];
    let user_end = match authority.rfind('@') {
        Some(end) => end,
        // A password with a character that should have been encoded, or one that the text's end
        // cuts off before its host.
        None if has_password(authority) => match word.rfind('@') {
            Some(end) => end,
            None if word.len() == rest.len() => word.len(),
            None => return None,
        },
        None => return None,
    };
    let user = &word[..user_end];
    let scheme = text[..at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("");
    let is_web = WEB.iter().any(|web| scheme.eq_ignore_ascii_case(web));
    let name_bytes = if is_web { 0 } else { user.find(':')? + 1 };
    (name_bytes < user_end).then_some(start + name_bytes..start + user_end)
}

/// Whether there is a `:` with more behind it than a port, and no IPv6 address.
fn has_password(authority: &str) -> bool {
    let (_, behind) = authority.split_once(':').unwrap_or_default();
    !authority.starts_with('[') && !behind.bytes().all(|byte| byte.is_ascii_digit())
}
