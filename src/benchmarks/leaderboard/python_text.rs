//! Methods of Python's strings that prompts depend on.

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

/// `json.dumps(text)`: a string with ASCII characters alone.
pub fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            other => {
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
    out
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
    fn json_has_ascii_alone() {
        let text = "a\"\\/\n\u{7f}é\u{1f600}\u{1}";
        let expected = r#""a\"\\/\n\u007f\u00e9\ud83d\ude00\u0001""#;
        assert_eq!(json_string(text), expected);
    }
}
