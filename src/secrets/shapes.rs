//! What secrets look like that nobody told: keys of well-known services, passwords in addresses,
//! headers, assignments, private keys.

use std::ops::Range;

use crate::job::limits;
use crate::secrets::names::{is_secret_header, is_secret_name, may_be_secret};
use crate::secrets::url;

/// A kind of key.
struct Shape {
    prefix: &'static str,
    /// Least number of characters behind the prefix.
    least: usize,
    /// Whether the prefix says it all. If not, it begins a word, and what follows is no word.
    is_telling: bool,
}

const fn telling(prefix: &'static str, least: usize) -> Shape {
    Shape { prefix, least, is_telling: true }
}

const fn plain(prefix: &'static str, least: usize) -> Shape {
    Shape { prefix, least, is_telling: false }
}

const SHAPES: [Shape; 36] = [
    telling("sk-ant-", 6),
    telling("github_pat_", 6),
    telling("ghp_", 10),
    telling("gho_", 10),
    telling("ghu_", 10),
    telling("ghs_", 10),
    telling("ghr_", 10),
    telling("glpat-", 6),
    telling("gldt-", 10),
    telling("glrt-", 10),
    telling("glptt-", 10),
    telling("glcbt-", 10),
    telling("xoxa-", 6),
    telling("xoxb-", 6),
    telling("xoxe-", 6),
    telling("xoxe.", 6),
    telling("xoxp-", 6),
    telling("xoxr-", 6),
    telling("xoxs-", 6),
    telling("xapp-", 10),
    telling("AIza", 20),
    telling("ya29.", 10),
    telling("sk_live_", 10),
    telling("rk_live_", 10),
    telling("dop_v1_", 10),
    telling("pypi-AgE", 10),
    telling("AGE-SECRET-KEY-", 10),
    plain("AKIA", 16),
    plain("ASIA", 16),
    plain("sk-", 8),
    plain("gsk_", 10),
    plain("hf_", 10),
    plain("npm_", 10),
    plain("xai-", 10),
    plain("pplx-", 10),
    plain("eyJ", 16),
];

/// From this length on a tail without a digit or capital counts as a key.
const CERTAIN: usize = 24;
/// What is left of a key that the text's end cuts off.
const CUT: usize = 4;

/// Adds the places of a text that look like secrets.
pub(super) fn find(text: &str, spans: &mut Vec<Range<usize>>) {
    keys(text, spans);
    bearers(text, spans);
    private_keys(text, spans);
    url::find(text, spans);
    assignments(text, spans);
}

fn keys(text: &str, spans: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    for shape in &SHAPES {
        let mut covered = 0;
        for (at, prefix) in text.match_indices(shape.prefix) {
            if at < covered {
                continue;
            }
            let tail = run(&bytes[at + prefix.len()..], b"-_.");
            let end = at + prefix.len() + tail.len();
            let is_cut = end == bytes.len();
            let least = if is_cut { shape.least.min(CUT) } else { shape.least };
            let is_key = shape.is_telling || (begins_word(&bytes[..at]) && is_no_word(tail));
            if tail.len() >= least && is_key {
                spans.push(at..end);
                covered = end;
            }
        }
    }
}

fn bearers(text: &str, spans: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for (at, word) in lower.match_indices("bearer ") {
        let start = at + word.len();
        let token = run(&text.as_bytes()[start..], b"-._~+/=");
        let has_digit = token.iter().any(u8::is_ascii_digit);
        if (token.len() >= 8 && has_digit) || token.len() >= CERTAIN {
            spans.push(start..start + token.len());
        }
    }
}

/// The bytes at the beginning that are letters, digits or one of these.
fn run<'t>(bytes: &'t [u8], others: &[u8]) -> &'t [u8] {
    let is_in = |byte: &&u8| byte.is_ascii_alphanumeric() || others.contains(byte);
    &bytes[..bytes.iter().take_while(is_in).count()]
}

/// Whether a word may begin behind these bytes: an escape's letter is none of it.
fn begins_word(before: &[u8]) -> bool {
    match before {
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        [.., b'm'] => {
            let codes = before[..before.len() - 1].iter().rev();
            let mut codes = codes.skip_while(|byte| byte.is_ascii_digit() || **byte == b';');
            codes.next() == Some(&b'[') && codes.next() == Some(&0x1b)
        }
        [.., last] => !last.is_ascii_alphanumeric(),
        [] => true,
    }
}

fn is_no_word(tail: &[u8]) -> bool {
    tail.len() >= CERTAIN || tail.iter().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

/// From the first line of a private key to its last, or as far as the text has it.
fn private_keys(text: &str, spans: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let line_end = |at: usize, word: &str| {
        let label = &text[at + word.len()..];
        let label = &label[..label.find("-----")?];
        let is_it = label.ends_with("PRIVATE KEY") || label.ends_with("PRIVATE KEY BLOCK");
        is_it.then_some(at + word.len() + label.len() + 5)
    };
    let mut covered = 0;
    for (at, word) in text.match_indices("-----BEGIN ") {
        // The line may be cut.
        let is_cut = "-----BEGIN RSA PRIVATE KEY-----".len() > text.len() - at;
        if at < covered || (line_end(at, word).is_none() && !is_cut) {
            continue;
        }
        let ends = text[at..].match_indices("-----END ");
        let end = ends.filter_map(|(end, word)| line_end(at + end, word)).next();
        covered = end.unwrap_or(text.len());
        spans.push(at..covered);
    }
    for (at, word) in text.match_indices("-----END ") {
        if let Some(end) = line_end(at, word).filter(|_| at >= covered) {
            let is_in = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/=\r\n\\".contains(byte);
            let before = bytes[covered..at].iter().rev().take_while(is_in).count();
            spans.push(at - before..end);
        }
    }
}

/// `NAME=value`, `"name":"value"` and `Header: value`, where the name says that it is a secret.
fn assignments(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut covered = 0;
    for (at, separator) in text.match_indices([':', '=']) {
        if at < covered {
            continue;
        }
        let value = assigned(&text[..at], separator, &text[at + 1..]).trim();
        if value.len() >= limits::SECRET_BYTES_MIN && may_be_secret(value) {
            let start = offset(text, value);
            covered = start + value.len();
            spans.push(start..covered);
        }
    }
}

/// The value behind a separator, if the name before it is a secret's; empty if not.
fn assigned<'t>(before: &str, separator: &str, behind: &'t str) -> &'t str {
    let spaceless = before.trim_end_matches(' ');
    let unquoted = spaceless.trim_end_matches(['"', '\'', '\\']);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = &unquoted[unquoted.trim_end_matches(is_name).len()..];
    let is_quoted = unquoted.len() < spaceless.len();
    let is_secret = is_secret_name(name);
    match separator {
        ":" if is_secret_header(name) && !is_quoted => {
            &behind[..behind.find(['\n', '\r', '\\', '"', '\'']).unwrap_or(behind.len())]
        }
        // In prose a colon follows many words.
        ":" if is_quoted && (is_secret || is_secret_header(name)) => quoted_value(behind),
        "=" if is_secret && spaceless.len() == before.len() => value(behind),
        "=" if is_secret => quoted_value(behind),
        _ => "",
    }
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// Up to the quote that ends it; empty if there is no quote.
fn quoted_value(text: &str) -> &str {
    let trimmed = text.trim_start_matches(' ');
    let inner = trimmed.trim_start_matches(['"', '\'', '\\']);
    if inner.len() == trimmed.len() {
        return &text[..0];
    }
    &inner[..inner.find(['"', '\'', '\\', '\n']).unwrap_or(inner.len())]
}

/// Up to what ends a word in a shell, an address or a list; or the quoted value.
fn value(text: &str) -> &str {
    if text.starts_with(['"', '\'', '\\']) {
        return quoted_value(text);
    }
    let is_end = |c: char| c.is_whitespace() || c.is_control() || "\"'\\,;&<>()[]{}|`".contains(c);
    &text[..text.find(is_end).unwrap_or(text.len())]
}
