//! Which variables, fields and headers hold a secret, by their names.

/// How a name ends whose value is a secret, in lower case.
const ENDINGS: [&str; 15] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "credentials",
    "_key",
    "-key",
    "_pat",
    "_pass",
    "apikey",
    "secretkey",
    "privatekey",
    "accesskey",
];

/// Names of headers whose value is a secret, in lower case.
const HEADERS: [&str; 10] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-auth-token",
    "private-token",
    "job-token",
    "cookie",
    "set-cookie",
];

/// Words that stand where a secret could, and are none.
const NO_SECRETS: [&str; 10] = [
    "true", "false", "none", "null", "auto", "default", "enabled", "disabled", "required", "unset",
];

/// Whether a variable of this name holds a secret: `…_KEY`, `…_TOKEN`, `…_SECRET`, `…_PASSWORD` and
/// the like.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

pub(super) fn is_secret_header(name: &str) -> bool {
    HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header))
}

/// Whether a value may be a secret at all. What begins like these is where one is to be put in.
pub(super) fn may_be_secret(value: &str) -> bool {
    !NO_SECRETS.iter().any(|word| value.eq_ignore_ascii_case(word))
        && !value.starts_with(['$', '<', '{', '*'])
}
