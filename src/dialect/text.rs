//! Text as it comes from terminals, made fit to be compared, and shapes to compare it with.

/// Without terminal codes, other control characters, a carriage return, and space at its ends.
pub(super) fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = anstream::adapter::strip_str(&text).to_string();
    let is_seen = |c: &char| !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}');
    let tabs_apart = text.chars().map(|c| if c == '\t' { ' ' } else { c });
    tabs_apart.filter(is_seen).collect::<String>().trim().to_string()
}

/// In small letters, with one kind of space, apostrophe, dot and dash each.
pub(super) fn folded(text: &str) -> String {
    folded_letters_kept(text).to_ascii_lowercase()
}

/// With one kind of space, apostrophe, dot and dash each.
pub(super) fn folded_letters_kept(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        let c = match c {
            '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
            '\n' | '\r' | '\t' => ' ',
            '\u{2018}' | '\u{2019}' | '\u{2bc}' => '\'',
            '\u{201c}' | '\u{201d}' => '"',
            '\u{2219}' | '\u{2022}' | '\u{2027}' | '\u{22c5}' | '\u{30fb}' | '\u{ff65}' => '\u{b7}',
            '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
            c => c,
        };
        if c != ' ' || !folded.ends_with(' ') {
            folded.push(c);
        }
    }
    folded
}

/// The beginning of a text, at most so many bytes of it.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

/// The beginning of a line, at most so many bytes of it.
pub(super) fn cut_bytes(line: &[u8], bytes_max: usize) -> &[u8] {
    line.get(..bytes_max).unwrap_or(line)
}

/// Where a shape ends in a text that begins with it. `*` in it stands for at most `gap` bytes
/// of one sentence.
pub(super) fn begins(text: &str, shape: &str, gap: usize) -> Option<usize> {
    let mut parts = shape.split('*');
    let first = parts.next().unwrap_or_default();
    let mut at = text.strip_prefix(first).map(|_| first.len())?;
    for part in parts {
        let room = cut(&text[at..], gap + part.len());
        // What is told of in another sentence is another thing.
        let next = room.find(part)?;
        if room[..next].contains(". ") {
            return None;
        }
        at += next + part.len();
    }
    Some(at)
}

/// Whether a shape stands anywhere in a text.
pub(super) fn contains(text: &str, shape: &str, gap: usize) -> bool {
    let first = shape.split('*').next().unwrap_or_default();
    if first.is_empty() {
        return contains(text, shape.trim_start_matches('*'), gap);
    }
    text.match_indices(first).any(|(at, _)| begins(&text[at..], shape, gap).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_not_show_is_gone() {
        for (bytes, expected) in [
            (&b"\x1b[91m\x1b[1mError: \x1b[0mSession not found\r"[..], "Error: Session not found"),
            (b"  a\tb \x07\x1b]0;title\x07c ", "a b c"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(plain(bytes), expected);
        }
        assert_eq!(
            folded("You\u{2019}ve \u{2219} 3\u{202f}PM\u{a0} \u{2014} x"),
            "you've \u{b7} 3 pm - x"
        );
    }

    #[test]
    fn shapes() {
        for (text, shape, begins_at, is_in) in [
            ("you've hit your opus limit now", "you've hit your * limit", Some(26), true),
            ("you've hit your limit", "you've hit your * limit", None, false),
            ("he says you've hit your x limit", "you've hit your * limit", None, true),
            ("you've hit your end. the limit", "you've hit your * limit", None, false),
            ("5-hour limit reached", "* limit reached", Some(20), true),
            (" limit reached", "* limit reached", Some(14), true),
            ("abc", "", Some(0), true),
        ] {
            assert_eq!(begins(text, shape, 20), begins_at, "{text} | {shape}");
            assert_eq!(shape.is_empty() || contains(text, shape, 20), is_in, "{text} | {shape}");
        }
        assert_eq!(cut("aä", 2), "a");
        assert_eq!(begins("aä b", "a*b", 1), None, "a gap is counted in bytes");
    }
}
