//! A known secret in every way of writing it that programs use: plain, percent encoded, escaped as
//! in JSON or for a shell, each byte by itself; and base64 of whatever it is a part of.

use std::ops::Range;

use crate::job::limits;

/// A secret, and what its base64 forms have in common.
#[derive(Clone)]
pub(super) struct Known {
    secret: Vec<u8>,
    /// The digits that the secret alone decides, for each place in a group of three bytes and each
    /// of the two alphabets.
    base64: Vec<Vec<u8>>,
}

/// How far a text is the secret.
enum Match {
    /// The whole secret, up to this place in the text.
    Whole(usize),
    /// The text ends after this many bytes of the secret.
    TextEnds(usize),
    No,
}

impl Known {
    pub fn new(secret: &str) -> Known {
        let secret = secret.as_bytes().to_vec();
        let mut base64 = Vec::new();
        for alphabet in [STANDARD, URL] {
            for before in 0..3 {
                let digits = inner_digits(&secret, before, alphabet);
                if digits.len() >= limits::SECRET_BYTES_MIN && !base64.contains(&digits) {
                    base64.push(digits);
                }
            }
        }
        Known { secret, base64 }
    }

    pub fn is(&self, secret: &str) -> bool {
        self.secret == secret.as_bytes()
    }

    /// Adds the places of a text where the secret, or a part of it that the text's ends left over,
    /// stands.
    pub fn find(&self, text: &[u8], spans: &mut Vec<Range<usize>>) {
        let may_begin = |byte: u8| byte == self.secret[0] || b"%\\+".contains(&byte);
        for start in (0..text.len()).filter(|&at| may_begin(text[at])) {
            match match_at(text, start, &self.secret) {
                Match::Whole(end) => spans.push(start..end),
                Match::TextEnds(matched) if matched >= limits::SECRET_BYTES_MIN => {
                    spans.push(start..text.len());
                }
                Match::TextEnds(_) | Match::No => {}
            }
        }
        spans.extend(self.rest_at_start(text));
        for digits in &self.base64 {
            spans.extend(runs_with(text, digits));
        }
    }

    /// The end of a secret whose beginning was cut off, or the middle of one.
    fn rest_at_start(&self, text: &[u8]) -> Option<Range<usize>> {
        let least = limits::SECRET_BYTES_MIN;
        let last = self.secret.len().checked_sub(least)?;
        (1..=last).find_map(|from| match match_at(text, 0, &self.secret[from..]) {
            Match::Whole(end) => Some(0..end),
            Match::TextEnds(matched) if matched >= least => Some(0..text.len()),
            Match::TextEnds(_) | Match::No => None,
        })
    }
}

/// Compares a text from a place on with a secret. A byte may be written in more than one way that
/// fits, so all places where the text may have come to are gone on from.
fn match_at(text: &[u8], start: usize, secret: &[u8]) -> Match {
    let mut places = vec![start];
    // As far as the reading has come that the text's end cut off.
    let mut cut_off = None;
    for (matched, byte) in secret.iter().enumerate() {
        let mut next = Vec::new();
        for &place in &places {
            let rest = &text[place..];
            if rest.is_empty() || is_cut_escape(rest) {
                cut_off = Some(matched);
            }
            for length in spellings(rest, *byte) {
                if !next.contains(&(place + length)) {
                    next.push(place + length);
                }
            }
        }
        places = next;
        if places.is_empty() {
            return cut_off.map_or(Match::No, Match::TextEnds);
        }
    }
    places.into_iter().max().map_or(Match::No, Match::Whole)
}

/// How long a spelling of this byte at the beginning of the text is: none, one or more.
fn spellings(text: &[u8], byte: u8) -> impl Iterator<Item = usize> {
    let plain = match text {
        [first, ..] => (*first == byte || (*first == b'+' && byte == b' ')).then_some(1),
        [] => None,
    };
    let percent = match text {
        [b'%', high, low, ..] => (hex(&[*high, *low]) == Some(u32::from(byte))).then_some(3),
        _ => None,
    };
    let escape = match text {
        [b'\\', b'u', digits @ ..] if digits.len() >= 4 => {
            (byte.is_ascii() && hex(&digits[..4]) == Some(u32::from(byte))).then_some(6)
        }
        [b'\\', letter, ..] => {
            let meant = match letter {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => *other,
            };
            (meant == byte).then_some(2)
        }
        _ => None,
    };
    [plain, percent, escape].into_iter().flatten()
}

fn is_cut_escape(text: &[u8]) -> bool {
    match text {
        [b'%' | b'\\'] | [b'%', _] => true,
        [b'\\', b'u', digits @ ..] => digits.len() < 4,
        _ => false,
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The base64 digits of bytes that begin at this place of a group of three, less those that the
/// bytes before and behind them have a part in.
fn inner_digits(bytes: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let first_bit = before * 8;
    let last_bit = first_bit + bytes.len() * 8;
    let bit = |at: usize| {
        let byte = bytes[(at - first_bit) / 8];
        usize::from(byte >> (7 - (at - first_bit) % 8) & 1)
    };
    (first_bit.div_ceil(6)..last_bit / 6)
        .map(|digit| alphabet[(0..6).fold(0, |value, at| value * 2 + bit(digit * 6 + at))])
        .collect()
}

/// The whole runs of base64 digits that hold these.
fn runs_with<'t>(text: &'t [u8], digits: &'t [u8]) -> impl Iterator<Item = Range<usize>> + 't {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    let found = (0..text.len()).filter(|&at| text[at..].starts_with(digits));
    found.map(move |at| {
        let before = text[..at].iter().rev().take_while(|byte| is_digit(byte)).count();
        let behind = text[at..].iter().take_while(|byte| is_digit(byte)).count();
        at - before..at + behind
    })
}
