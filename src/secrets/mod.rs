//! Secrets: what they are kept in, and how every text is rid of them on its way to a person, a log
//! or the store. Pure: no I/O, clock or threads.
//!
//! What is known to be secret is found in every way of writing it that programs use (plain, percent
//! encoded, escaped as in JSON, base64 of `user:secret`), also where a text begins or ends in the
//! middle of it. What nobody told is found by what keys of well-known services look like.

mod encoded;
mod names;
mod shapes;
mod url;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::job::limits;

use self::encoded::Known;

pub use self::names::is_secret_name;

/// What stands in a secret's place.
pub const MARK: &str = "…";

/// A secret. Neither [`fmt::Debug`] nor anything else but [`Secret::expose`] shows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MARK)
    }
}

/// An address that may hold a password, `https://user:password@host`. It is shown without.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Keeps an address.
    pub fn new(text: impl Into<String>) -> Address {
        Address(text.into())
    }

    /// The address with its password, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is secret of what stands before its host.
    pub fn passwords(&self) -> Vec<Secret> {
        url::passwords(&self.0).map(Secret::new).collect()
    }

    /// The address without it, or as it is if there is nothing to hide.
    pub fn without_password(&self) -> String {
        url::without_password(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Secrets::default().mask(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// All secrets that a process knows: whom they are given to, from whom they are kept, and how a
/// text is rid of them. Without any, a text is still rid of what looks like a key.
#[derive(Clone, Default)]
pub struct Secrets {
    known: Vec<Known>,
    given: Vec<(String, Secret)>,
    removed: Vec<String>,
    replaced: Vec<(String, String)>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({MARK})")
    }
}

impl Secrets {
    /// Hides a secret from now on. One that is shorter than [`limits::SECRET_BYTES_MIN`] would hide
    /// half of every text: it is none.
    pub fn hide(&mut self, secret: &Secret) {
        let whole = secret.expose().trim();
        // Where texts are read by the line, so is a secret that has several.
        let lines = whole.lines().map(str::trim).filter(|line| *line != whole);
        let lines = lines.filter(|line| line.len() >= limits::SECRET_LINE_BYTES_MIN);
        for part in std::iter::once(whole).chain(lines) {
            let is_new = !self.known.iter().any(|known| known.is(part));
            if is_new && part.len() >= limits::SECRET_BYTES_MIN {
                self.known.push(Known::new(part));
            }
        }
    }

    /// Hides what is secret in a variable: its value, if its name says so (`…_KEY`, `…_TOKEN`,
    /// `…_SECRET`, `…_PASSWORD` and the like), or the password of the address that it is.
    pub fn hide_variable(&mut self, name: &str, value: &str) {
        if is_secret_name(name) && names::may_be_secret(value) {
            self.hide(&Secret::new(value));
        }
        for password in Address::new(value).passwords() {
            self.hide(&password);
        }
    }

    /// Gives a secret to agents, in a variable of their environment, and hides it elsewhere.
    pub fn give(&mut self, name: impl Into<String>, secret: Secret) {
        self.hide(&secret);
        self.given.push((name.into(), secret));
    }

    /// Takes a variable out of the environment of every program that is started, agents and their
    /// commands too. A name that ends in `*` stands for a beginning.
    pub fn remove(&mut self, name: impl Into<String>) {
        self.removed.push(name.into());
    }

    /// Passes a variable on with another value: one without its password.
    pub fn replace(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.replaced.push((name.into(), value.into()));
    }

    /// Names and values for an agent's environment.
    pub fn given(&self) -> impl Iterator<Item = (&str, &str)> {
        self.given.iter().map(|(name, secret)| (name.as_str(), secret.expose()))
    }

    /// Names that no agent has in its environment.
    pub fn removed_for_agents(&self) -> impl Iterator<Item = &str> {
        self.removed.iter().map(String::as_str)
    }

    /// Names that no other program that is started has in its environment, git and the shim
    /// included; the shim is then given what is meant for its agent.
    pub fn removed_for_commands(&self) -> impl Iterator<Item = &str> {
        self.removed_for_agents().chain(self.given.iter().map(|(name, _)| name.as_str()))
    }

    /// Variables that every program that is started has with another value.
    pub fn replaced(&self) -> impl Iterator<Item = (&str, &str)> {
        self.replaced.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The text with [`MARK`] in the place of each secret. Masked once more, it stays as it is.
    ///
    /// ```
    /// use kugetsu::secrets::{Secret, Secrets};
    ///
    /// let mut secrets = Secrets::default();
    /// secrets.hide(&Secret::new("t0p/s3cret"));
    /// assert_eq!(secrets.mask("no t0p/s3cret, no t0p%2Fs3cret"), "no …, no …");
    /// assert_eq!(secrets.mask("https://me:pass@h/o/r"), "https://…@h/o/r");
    /// ```
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        // It ends: with each round there is less in the text that is no mark.
        while let Some(more) = self.mask_once(&masked) {
            masked = Cow::Owned(more);
        }
        masked
    }

    /// The text, masked and only then cut, to what is kept of a detail.
    pub fn detail(&self, text: &str) -> String {
        let masked = self.mask(text);
        masked[..boundary_before(&masked, limits::DETAIL_BYTES_MAX)].into()
    }

    fn mask_once(&self, text: &str) -> Option<String> {
        let mut spans = Vec::new();
        shapes::find(text, &mut spans);
        for known in &self.known {
            known.find(text.as_bytes(), &mut spans);
        }
        let mut masked = String::with_capacity(text.len());
        let mut copied = 0;
        for span in joined(spans, text) {
            if text[span.clone()].replace(MARK, "").is_empty() {
                continue;
            }
            masked.push_str(&text[copied..span.start]);
            masked.push_str(MARK);
            copied = span.end;
        }
        if copied == 0 {
            return None;
        }
        masked.push_str(&text[copied..]);
        Some(masked)
    }
}

/// In order, on the bounds of characters, and those that meet as one: what is left between two
/// secrets that overlap would be a part of both.
fn joined(mut spans: Vec<Range<usize>>, text: &str) -> Vec<Range<usize>> {
    spans.sort_by_key(|span| (span.start, span.end));
    let mut joined: Vec<Range<usize>> = Vec::new();
    for span in spans {
        let span = boundary_before(text, span.start)..boundary_after(text, span.end);
        match joined.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            Some(_) | None => joined.push(span),
        }
    }
    joined
}

fn boundary_before(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

fn boundary_after(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests;
