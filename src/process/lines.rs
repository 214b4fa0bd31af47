//! Lines out of bytes that come in pieces.

use crate::job::limits;

/// A line, or the beginning of one that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'l> {
    /// All of it, without its newline.
    Whole(&'l [u8]),
    /// Its first [`limits::DIALECT_LINE_BYTES_MAX`] bytes.
    Beginning(&'l [u8]),
}

/// Keeps the beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    is_cut: bool,
}

impl Lines {
    /// Takes what came next, and gives each line that ends in it.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = limits::DIALECT_LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.is_cut |= text.len() > room;
            if part.len() > text.len() {
                self.end(&mut each);
            }
        }
    }

    /// Gives the last line, if it did not end.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if !self.line.is_empty() {
            self.end(&mut each);
        }
    }

    /// Forgets the beginning of a line.
    pub fn clear(&mut self) {
        self.line.clear();
        self.is_cut = false;
    }

    fn end(&mut self, each: &mut impl FnMut(Line<'_>)) {
        each(if self.is_cut { Line::Beginning(&self.line) } else { Line::Whole(&self.line) });
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_their_bytes_do() {
        let long = "x".repeat(limits::DIALECT_LINE_BYTES_MAX);
        let text = format!("one\n\n{long}\n{long}y\ntwo\nlast");
        let cut = format!("{long}…");
        let expected = ["one", "", &long, &cut, "two", "last"];
        for size in [1, 3, 4096, text.len()] {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            let mut keep = |line: Line<'_>| {
                found.push(match line {
                    Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                    Line::Beginning(line) => format!("{}…", String::from_utf8_lossy(line)),
                });
            };
            text.as_bytes().chunks(size).for_each(|piece| lines.feed(piece, &mut keep));
            lines.finish(&mut keep);
            lines.finish(&mut keep);
            assert!(found == expected, "in pieces of {size}");
        }
    }
}
