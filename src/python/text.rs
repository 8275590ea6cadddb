//! Methods of Python's strings, and numbers and strings as it prints them.

use std::fmt::{self, Write};
use unicode_titlecase::TitleCase;

/// Whether `str.isspace` holds for a character: white space by Unicode and four separators.
pub fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `text.strip()`
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `text.rstrip()`
pub fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `text.capitalize()`: the first character as in titles, all others in lower case.
pub fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else {
        return String::new();
    };
    // The last sigma of a word has a form of its own, so that the whole text decides.
    let lower = text.to_lowercase();
    let skipped: usize = first.to_lowercase().map(char::len_utf8).sum();
    first
        .to_titlecase()
        .chain(lower[skipped..].chars())
        .collect()
}

/// A number with a fraction: the fewest digits that give it back, and an exponent where it is below
/// 1e-4 or at least 1e16.
pub fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific.to_lowercase();
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{number:?}"),
    }
}

/// Writes `repr(text)`: a string in quotes, double ones where it holds single ones alone.
///
/// # Errors
/// Those of `out`.
pub fn write_quoted(out: &mut impl Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\\' => out.write_str("\\\\")?,
            _ if character == quote => write!(out, "\\{character}")?,
            _ if is_printable(character) => out.write_char(character)?,
            _ => match u32::from(character) {
                code @ ..=0xff => write!(out, "\\x{code:02x}")?,
                code @ ..=0xffff => write!(out, "\\u{code:04x}")?,
                code => write!(out, "\\U{code:08x}")?,
            },
        }
    }
    out.write_char(quote)
}

fn is_printable(character: char) -> bool {
    if matches!(character, '\'' | '"') {
        return true;
    }
    // Behind a letter a mark that combines with it is left as it is.
    let text: String = ['a', character].iter().collect();
    text.escape_debug().eq(text.chars())
}

/// `text` with a capital wherever no word goes on, and small letters elsewhere.
pub fn titled(text: &str, goes_on: impl Fn(char) -> bool) -> String {
    let (mut titled, mut before) = (String::with_capacity(text.len()), None);
    for character in text.chars() {
        match before.is_some_and(&goes_on) {
            true => titled.extend(character.to_lowercase()),
            false => titled.extend(character.to_uppercase()),
        }
        before = Some(character);
    }
    titled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_are_those_of_python() {
        for (text, expected) in [
            ("the Man In The Boat", "The man in the boat"),
            ("ÉCOLE Ouverte", "École ouverte"),
            ("ß Start", "Ss start"),
            ("ǆ x", "ǅ x"),
            ("", ""),
            ("123 ABC", "123 abc"),
            ("ΑΣ ΣΑΣ", "Ας σας"),
            ("İX", "İx"),
            ("ﬁX", "Fix"),
        ] {
            assert_eq!(capitalize(text), expected);
        }
    }

    #[test]
    fn white_space_is_that_of_python() {
        assert_eq!(strip("\u{1c}\u{a0}\n a \u{2003}\u{1f}"), "a");
        assert_eq!(strip_end(" a\u{85}\u{200b}"), " a\u{85}\u{200b}");
    }

    #[test]
    fn numbers_have_an_exponent_where_python_gives_them_one() {
        for (number, written) in [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e15, "1500000000000000.0"),
            (1e16, "1e+16"),
            (-1.25e-300, "-1.25e-300"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(number), written);
        }
    }

    #[test]
    fn strings_are_quoted_as_python_quotes_them() {
        for (text, expected) in [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            ("\n\u{7f}\u{200b}é", "'\\n\\x7f\\u200bé'"),
        ] {
            let mut written = String::new();
            write_quoted(&mut written, text).unwrap();
            assert_eq!(written, expected);
        }
    }
}
