//! Texts with secrets in them, and what is left of them.

use proptest::prelude::*;

use super::*;

fn secrets(all: &[&str]) -> Secrets {
    let mut secrets = Secrets::default();
    for secret in all {
        secrets.hide(&Secret::new(*secret));
    }
    secrets
}

fn check(known: &[&str], table: &[(&str, &str)]) {
    let secrets = secrets(known);
    for (text, expected) in table {
        let masked = secrets.mask(text);
        assert_eq!(&masked, expected, "{text:?}");
        assert_eq!(secrets.mask(&masked), masked, "masking twice: {text:?}");
        assert_eq!(matches!(masked, Cow::Borrowed(_)), text == expected, "{text:?}");
    }
}

#[test]
fn a_known_secret_in_every_way_of_writing_it() {
    check(
        &["t0p/\"s3cret\" ü"],
        &[
            ("", ""),
            ("nothing", "nothing"),
            ("a t0p/\"s3cret\" ü b", "a … b"),
            ("{\"x\":\"t0p/\\\"s3cret\\\" ü\"}", "{\"x\":\"…\"}"),
            ("{\"x\":\"t0p\\/\\u0022s3cret\\u0022 ü\"}", "{\"x\":\"…\"}"),
            ("x=t0p%2F%22s3cret%22%20%C3%BC&y", "x=…&y"),
            ("x=t0p%2f%22s3cret%22+%c3%bc&y", "x=…&y"),
            ("t0p/\"s3cre_", "t0p/\"s3cre_"),
            // Where the text's ends leave a part of it.
            ("so t0p/", "so …"),
            ("so t0p%2", "so t0p%2"),
            ("so t0p/%2", "so …"),
            ("so t0p", "so t0p"),
            ("cret\" ü and so", "… and so"),
            ("s3cret", "…"),
            ("3 ü", "3 ü"),
        ],
    );
    check(
        &["hunter2"],
        &[
            // echo -n me:hunter2 | base64, and longer names
            ("sent bWU6aHVudGVyMg==.", "sent …."),
            ("sent bWVlOmh1bnRlcjI=.", "sent …."),
            ("sent bWVlZTpodW50ZXIy.", "sent …."),
            ("hunter", "…"),
            ("hunter_", "hunter_"),
            ("hunter2hunter2", "…"),
            ("unter22", "…2"),
        ],
    );
}

#[test]
fn secrets_that_overlap_leave_nothing_between_them() {
    check(
        &["abcdef", "defghi", "abc", "…ab…c", "  trimmed\n", "first line 123\nsecond line 4"],
        &[
            ("xabcdefghix", "x…x"),
            ("abc", "abc"),
            ("…abcdef…c", "………c"),
            ("…ab…c", "…"),
            ("a trimmed one", "a … one"),
            ("> second line 4", "> …"),
            ("> first line 123", "> …"),
        ],
    );
}

#[test]
fn keys_that_nobody_told() {
    check(
        &[],
        &[
            ("key sk-ant-api03-AbC_d-9 is bad", "key … is bad"),
            ("Incorrect API key provided: sk-proj-Abcd1234.", "Incorrect API key provided: …"),
            ("(sk-abcdefghijklmnopqrstuvwx)", "(…)"),
            ("task-1234567890 risk-ABCDEFGHIJ", "task-1234567890 risk-ABCDEFGHIJ"),
            ("with sk-learn-tutorial", "with sk-learn-tutorial"),
            ("\\nsk-Abcdefgh1234\\n", "\\n…\\n"),
            ("%20sk-Abcdefgh1234", "%20…"),
            ("\u{1b}[31msk-Abcdefgh1234", "\u{1b}[31m…"),
            ("ghp_0123456789abcdef", "…"),
            ("github_pat_11AAAA_bbbb", "…"),
            ("glpat-abcdefghij0123456789", "…"),
            ("xoxb-1-2-abcdef!", "…!"),
            ("AKIAIOSFODNN7EXAMPLE", "…"),
            ("AIzaSyA1234567890abcdefghijk", "…"),
            ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln end", "jwt … end"),
            ("curl -H 'Authorization: Bearer abc' x", "curl -H 'Authorization: …' x"),
            ("authorization: Basic bWU6cA==\nHost: h", "authorization: …\nHost: h"),
            ("\"Authorization\": \"token abc1\"", "\"Authorization\": \"…\""),
            ("x-api-key: 12345", "x-api-key: …"),
            ("a bearer abcdefg1", "a bearer …"),
            ("a bearer of good news", "a bearer of good news"),
            ("DB_PASSWORD=hunter2 x", "DB_PASSWORD=… x"),
            ("export MY_API_KEY='a b c' x", "export MY_API_KEY='…' x"),
            ("?access_token=abcd&x=1", "?access_token=…&x=1"),
            ("{\"apiKey\":\"abcd\",\"x\":1}", "{\"apiKey\":\"…\",\"x\":1}"),
            ("{\\\"client_secret\\\": \\\"abcd\\\"}", "{\\\"client_secret\\\": \\\"…\\\"}"),
            ("password = \"hunter2\"", "password = \"…\""),
            ("wrong password: try again", "wrong password: try again"),
            ("this is not KEY=value", "this is not KEY=value"),
            ("GITEA_TOKEN=$TOKEN MY_KEY=true", "GITEA_TOKEN=$TOKEN MY_KEY=true"),
            ("max_tokens=4096", "max_tokens=4096"),
        ],
    );
}

#[test]
fn private_keys() {
    let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIB+/=\nAAAA\n-----END RSA PRIVATE KEY-----";
    let json = key.replace('\n', "\\n");
    let cut = &key[..50];
    let rest = &key[40..];
    check(
        &[],
        &[
            (key, "…"),
            (&format!("a {key} b {key}\nc"), "a … b …\nc"),
            (&format!("{{\"k\":\"{json}\"}}"), "{\"k\":\"…\"}"),
            (cut, "…"),
            (&key[..20], "…"),
            (&format!("{rest} b"), "… b"),
            ("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n", {
                "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"
            }),
        ],
    );
}

#[test]
fn passwords_in_addresses() {
    for (text, masked, without, passwords) in [
        ("https://h/o/r", "https://h/o/r", "https://h/o/r", &[][..]),
        ("https://me:pa@h/o", "https://…@h/o", "https://h/o", &["pa"]),
        ("https://me@h/o", "https://…@h/o", "https://h/o", &[]),
        ("https://0123456789abcdef@h/o", "https://…@h/o", "https://h/o", &["0123456789abcdef"]),
        (
            "HTTPS://0123456789abcdef:x-oauth-basic@h",
            "HTTPS://…@h",
            "HTTPS://h",
            &["0123456789abcdef"],
        ),
        ("https://me:p%40%C3%BC@h/o", "https://…@h/o", "https://h/o", &["p@ü"]),
        ("https://me:a/b@c@h/o", "https://…@h/o", "https://h/o", &["a/b@c"]),
        ("https://h:8443/@scope/x", "https://h:8443/@scope/x", "https://h:8443/@scope/x", &[]),
        ("https://h/a@v1", "https://h/a@v1", "https://h/a@v1", &[]),
        ("https://[::1]:8443/x", "https://[::1]:8443/x", "https://[::1]:8443/x", &[]),
        ("ssh://git@h/o", "ssh://git@h/o", "ssh://git@h/o", &[]),
        ("ssh://git:a:b@h/o", "ssh://git:…@h/o", "ssh://git@h/o", &["a:b"]),
        ("postgres://u:p@h,i/d?x=y", "postgres://u:…@h,i/d?x=y", "postgres://u@h,i/d?x=y", &["p"]),
        ("git@h:o/r", "git@h:o/r", "git@h:o/r", &[]),
        (
            "https://{host}/{path}.git",
            "https://{host}/{path}.git",
            "https://{host}/{path}.git",
            &[],
        ),
        ("'https://me:p@h' x", "'https://…@h' x", "'https://h' x", &["p"]),
        ("at https://me:pass", "at https://…", "at https://me:pass", &["pass"]),
        ("at https://host:80", "at https://host:80", "at https://host:80", &[]),
    ] {
        let address = Address::new(text);
        assert_eq!(address.to_string(), masked, "{text}");
        assert_eq!(address.without_password(), without, "{text}");
        let found: Vec<String> =
            address.passwords().iter().map(|secret| secret.expose().into()).collect();
        assert_eq!(found, passwords, "{text}");
        check(&[], &[(text, masked)]);
        assert_eq!(format!("{address:?}"), format!("{masked:?}"));
    }
}

#[test]
fn nothing_shows_a_secret_by_mistake() {
    let mut secrets = secrets(&["hidden-one"]);
    secrets.give("GITEA_TOKEN", Secret::new("given-one"));
    secrets.remove("KUGETSU_TOKEN_*");
    secrets.replace("KUGETSU_STORE", "postgres://h");
    let shown = format!("{secrets:?} {:?}", Secret::new("bare-one"));
    assert!(!shown.contains("one"), "{shown}");
    assert_eq!(secrets.mask("given-one"), MARK);
    let all = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(" ");
    assert_eq!(all(&mut secrets.removed_for_agents()), "KUGETSU_TOKEN_*");
    assert_eq!(all(&mut secrets.removed_for_commands()), "KUGETSU_TOKEN_* GITEA_TOKEN");
    assert_eq!(secrets.given().collect::<Vec<_>>(), [("GITEA_TOKEN", "given-one")]);
    assert_eq!(secrets.replaced().collect::<Vec<_>>(), [("KUGETSU_STORE", "postgres://h")]);
}

#[test]
fn names_of_secrets() {
    for (name, expected) in [
        ("ANTHROPIC_API_KEY", true),
        ("OPENAI_KEY", true),
        ("GITHUB_TOKEN", true),
        ("TOKEN", true),
        ("db_password", true),
        ("MY_SECRET", true),
        ("apiKey", true),
        ("KEY", false),
        ("MONKEY", false),
        ("PATH", false),
        ("TOKENS", false),
        ("KUGETSU_TOKEN_X", false),
    ] {
        assert_eq!(is_secret_name(name), expected, "{name}");
    }
}

/// Whether four bytes of a secret stand next to each other in a text.
fn has_part(text: &str, secret: &str) -> bool {
    let windows: Vec<&[u8]> = secret.as_bytes().windows(4).collect();
    text.as_bytes().windows(4).any(|part| windows.contains(&part))
}

proptest! {
    #[test]
    fn masking_twice_is_masking_once(
        known in prop::collection::vec("[ab%…\"\\\\/:@=-]{1,8}", 0..4),
        text in "([ab%…\"\\\\/:@=-]|2F|sk-|_KEY=|://|https|Bearer |-----BEGIN |PRIVATE KEY|\
                 -----END |-----|\n| |eyJ|A1B2C3D4E5){0,40}",
    ) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let secrets = secrets(&known);
        let masked = secrets.mask(&text).into_owned();
        prop_assert_eq!(secrets.mask(&masked), masked.as_str());
        for secret in known.iter().map(|secret| secret.trim()).filter(|s| s.len() >= 4) {
            prop_assert!(!masked.contains(secret) || secret == MARK, "{} in {}", secret, masked);
        }
        let detail = secrets.detail(&text);
        prop_assert!(detail.len() <= limits::DETAIL_BYTES_MAX);
    }

    /// Before the cut or behind it, in whatever spelling.
    #[test]
    fn no_part_of_a_secret_survives_the_cut_of_a_detail(
        secret in "[A-Z0-9+/=&\"]{5,40}",
        spelling in 0..3_u8,
        room in 0..60_usize,
    ) {
        let spelled = match spelling {
            0 => secret.clone(),
            1 => secret.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            _ => secret.replace('"', "\\\""),
        };
        let padding = "x ".repeat(limits::DETAIL_BYTES_MAX / 2 - room / 2);
        let secrets = secrets(&[&secret]);
        let detail = secrets.detail(&format!("{padding}{spelled} ü and more"));
        prop_assert!(detail.len() <= limits::DETAIL_BYTES_MAX);
        prop_assert!(!has_part(&detail, &secret), "{}", detail);
        for at in 0..=spelled.len() {
            let before = secrets.mask(&format!("ü {}", &spelled[..at])).into_owned();
            prop_assert!(!has_part(&before, &secret), "{}", before);
            let behind = secrets.mask(&format!("{} ü", &spelled[at..])).into_owned();
            prop_assert!(!has_part(&behind, &secret), "{}", behind);
        }
    }
}
