//! The prompt of the TL;DR task (Stiennon et al. 2020; Huang et al. 2024) and its truncation rule:
//! a post that is too long loses its last paragraph, again and again; where no paragraph is left,
//! its last characters.

use crate::data::encoder::TextEncoder;
use crate::{Error, Result};

/// The parts of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub subreddit: String,
    pub title: String,
    pub post: String,
}

/// The prompt, without a trailing space: the response begins with one.
pub fn prompt(post: &Post) -> String {
    format!(
        "SUBREDDIT: r/{}\n\nTITLE: {}\n\nPOST: {}\n\nTL;DR:",
        post.subreddit, post.title, post.post
    )
}

/// The text of a response as it follows the prompt.
pub fn response(summary: &str) -> String {
    format!(" {}", summary.trim())
}

/// The most tokens that a shortened text can lose beyond the number of its removed bytes, because
/// its last word may need fewer tokens without its end. Otherwise it loses no more tokens than
/// bytes, since a token has at least one byte.
const RESPELLED: usize = 8;

/// The longest prompt within the encoder's limit that the truncation rule gives.
///
/// # Errors
/// A subreddit and title that alone exceed the length of a prompt.
pub fn fitted(post: &Post, encoder: &TextEncoder) -> Result<String> {
    fitted_at("a post", post, encoder)
}

/// The prompt of [`fitted`] for the post at `place`, as errors name it.
///
/// # Errors
/// As [`fitted`].
pub fn fitted_at(place: &str, post: &Post, encoder: &TextEncoder) -> Result<String> {
    let mut post = post.clone();
    loop {
        let text = prompt(&post);
        let length = encoder.prompt_length(&text)?;
        let excess = length.saturating_sub(encoder.max_prompt_tokens);
        if excess == 0 {
            return Ok(text);
        }
        if post.post.is_empty() {
            return Err(too_long(place, &post, length, encoder));
        }
        match post.post.rfind('\n') {
            Some(paragraph) => post.post.truncate(paragraph),
            // Removes at once as many characters as cannot be enough.
            None => shorten(&mut post.post, excess.saturating_sub(RESPELLED)),
        }
    }
}

/// Checks that the post at `place` can be fitted, which depends on its subreddit and title alone.
///
/// # Errors
/// As [`fitted`].
pub fn check(place: &str, post: &Post, encoder: &TextEncoder) -> Result<()> {
    let bare = Post {
        post: String::new(),
        ..post.clone()
    };
    let text = prompt(&bare);
    // A token has at least one byte.
    if text.len() <= encoder.max_prompt_tokens {
        return Ok(());
    }
    match encoder.prompt_length(&text)? {
        length if length > encoder.max_prompt_tokens => {
            Err(too_long(place, &bare, length, encoder))
        }
        _ => Ok(()),
    }
}

fn too_long(place: &str, post: &Post, length: usize, encoder: &TextEncoder) -> Error {
    let what = if post.title.len() >= post.subreddit.len() {
        "title"
    } else {
        "subreddit"
    };
    Error::data(format!(
        "{place}: its {what} is too long: without any of its post the prompt has {length} tokens, and {} are allowed",
        encoder.max_prompt_tokens
    ))
    .hint(format!("shorten the {what} or drop the row; only posts are cut to fit (generation.max_prompt_tokens)"))
}

/// Removes the last character, or as many as have `bytes` bytes.
fn shorten(text: &mut String, bytes: usize) {
    let mut end = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(end) {
        end += 1;
    }
    if end < text.len() {
        text.truncate(end);
    } else {
        text.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::world::WorldSettings;
    use tokenizers::models::wordlevel::WordLevel;
    use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
    use tokenizers::{AddedToken, Tokenizer};

    /// A tokenizer with one token per word.
    fn encoder(limit: usize) -> TextEncoder {
        let model = WordLevel::builder()
            .vocab([("?".to_string(), 0)].into())
            .unk_token("?".into())
            .build()
            .unwrap();
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(WhitespaceSplit));
        tokenizer
            .add_special_tokens([AddedToken::from("<|endoftext|>", true)])
            .unwrap();
        TextEncoder::new(tokenizer, limit, 8).unwrap()
    }

    /// The rule as it is defined: one character at a time.
    fn fitted_slowly(post: &Post, encoder: &TextEncoder) -> String {
        let mut post = post.clone();
        while encoder.prompt_length(&prompt(&post)).unwrap() > encoder.max_prompt_tokens
            && !post.post.is_empty()
        {
            match post.post.rfind('\n') {
                Some(paragraph) => post.post.truncate(paragraph),
                None => drop(post.post.pop()),
            }
        }
        prompt(&post)
    }

    #[test]
    fn long_paragraphs_are_cut_where_the_rule_cuts_them() {
        let tokenizer = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/tldr/tokenizer.json"
        );
        let tokenizer = Tokenizer::from_file(tokenizer).unwrap();
        let text = "My sister's naïve café — 日本 🙂🙂 owner (she's 34!) screamed at me, again and again, about £1,200. ";
        for (limit, repeats) in [(40, 1), (60, 7), (96, 20), (200, 20), (33, 12)] {
            let encoder = TextEncoder::new(tokenizer.clone(), limit, 8).unwrap();
            for from in [0, 3, 11, 40] {
                let long = post(&text.repeat(repeats)[text.char_indices().nth(from).unwrap().0..]);
                assert_eq!(
                    fitted(&long, &encoder).unwrap(),
                    fitted_slowly(&long, &encoder),
                    "{limit} tokens, from {from}"
                );
            }
        }
    }

    fn post(text: &str) -> Post {
        Post {
            subreddit: "tifu".into(),
            title: "a title".into(),
            post: text.into(),
        }
    }

    #[test]
    fn a_prompt_that_fits_is_left_alone() {
        let text = fitted(&post("one two\nthree"), &encoder(50)).unwrap();
        assert_eq!(
            text,
            "SUBREDDIT: r/tifu\n\nTITLE: a title\n\nPOST: one two\nthree\n\nTL;DR:"
        );
    }

    #[test]
    fn paragraphs_go_first_then_characters() {
        // The frame of a prompt has 7 words.
        let text = fitted(&post("one two\nthree four\nfive"), &encoder(10)).unwrap();
        assert_eq!(text, prompt(&post("one two")));
        let text = fitted(&post("one two three four"), &encoder(9)).unwrap();
        assert_eq!(text, prompt(&post("one two ")));
    }

    #[test]
    fn a_title_that_leaves_no_room_is_named() {
        let long = Post {
            title: "word ".repeat(9),
            ..post("one two")
        };
        let error = fitted_at("x.jsonl, line 3", &long, &encoder(10)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.jsonl, line 3: its title is too long: without any of its post the prompt has 14 tokens, and 10 are allowed"
        );
        for limit in 1..20 {
            let encoder = encoder(limit);
            assert_eq!(
                check("x", &long, &encoder).is_ok(),
                fitted(&long, &encoder).is_ok(),
                "{limit}"
            );
        }
    }

    #[test]
    fn a_response_that_is_too_long_has_no_end() {
        let encoder = encoder(50);
        let short = encoder.response(" a b c").unwrap();
        assert!(short.ended && short.ids.len() == 4);
        let long = encoder.response(" a b c d e f g h i").unwrap();
        assert!(!long.ended && long.ids.len() == 8 && !long.ids.contains(&encoder.eos));
    }

    #[test]
    fn padding_is_never_the_end() {
        let tokenizer = WorldSettings::default()
            .open()
            .unwrap()
            .tokenizer()
            .unwrap();
        assert_ne!(
            tokenizer.token_to_id("<|padding|>"),
            tokenizer.token_to_id("<|endoftext|>")
        );
    }
}
