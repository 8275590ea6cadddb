//! Pairs of context and continuation as tokens.

use super::goldens::shared;
use crate::common::fixture;
use touchstone::benchmarks::leaderboard::Convention;
use touchstone::benchmarks::leaderboard::encode::{EncodedPair, Encoder};
use touchstone::model::ModelTokenizer;

fn encoded(tokenizer: &ModelTokenizer, convention: Convention, pair: (&str, &str)) -> EncodedPair {
    let encoder = Encoder::new(tokenizer, 2, convention).unwrap();
    encoder.pairs([pair]).unwrap().remove(0)
}

#[test]
fn pairs_are_those_of_the_reference() {
    let Some(shared) = shared() else { return };
    let goldens = std::fs::read(shared.join("evals/tokenizers/mistral_chat_and_pair_goldens.json"));
    let goldens: serde_json::Value = serde_json::from_slice(&goldens.unwrap()).unwrap();
    let tokenizer = ModelTokenizer::open(&shared.join("tokenizers/mistral-v0.1")).unwrap();
    for golden in goldens["encode_pair"].as_array().unwrap() {
        let [context, continuation] =
            ["context", "continuation"].map(|key| golden[key].as_str().unwrap());
        let [context_ids, continuation_ids] = ["context_ids", "continuation_ids"]
            .map(|key| serde_json::from_value::<Vec<u32>>(golden[key].clone()).unwrap());
        for convention in [Convention::H3, Convention::H4] {
            let found = encoded(&tokenizer, convention, (context, continuation));
            assert_eq!(
                (&found.context, &found.continuation),
                (&context_ids, &continuation_ids)
            );
        }
        let found = encoded(&tokenizer, Convention::H5, (context, continuation));
        assert_eq!(found.context, [&[1][..], &context_ids].concat());
        assert_eq!(found.continuation, continuation_ids);
    }
}

#[test]
fn white_space_moves_to_the_continuation() {
    let tokenizer = ModelTokenizer::open(&fixture("chat/byte")).unwrap();
    let of = |convention, pair| encoded(&tokenizer, convention, pair);
    let tokens = |text: &str| tokenizer.encode(text).unwrap();
    let moved = of(Convention::H4, ("a: \u{a0}\n", "b"));
    assert_eq!(moved.context, tokens("a:"));
    assert_eq!(moved.continuation, tokens(" \u{a0}\nb"));
    let apart = of(Convention::V030, ("a: ", "b"));
    assert_eq!(
        (apart.context, apart.continuation),
        (tokens("a: "), tokens("b"))
    );
    let empty = of(Convention::H4, ("", "b"));
    assert_eq!((empty.context, empty.continuation), (vec![2], tokens("b")));
}

#[test]
fn only_the_newest_convention_lets_the_tokenizer_begin_a_text() {
    let tokenizer = ModelTokenizer::open(&fixture("chat/llama")).unwrap();
    let context = |convention| encoded(&tokenizer, convention, ("who is it ?", " a")).context;
    let start = tokenizer.token_to_id("<s>").unwrap();
    assert_eq!(context(Convention::H5)[0], start);
    assert_eq!(context(Convention::H5)[1..], context(Convention::H4));
    let continuation = |convention| encoded(&tokenizer, convention, ("who", " a")).continuation;
    assert_eq!(continuation(Convention::H5), continuation(Convention::H4));
    let empty = encoded(&tokenizer, Convention::H5, ("", " a")).context;
    assert_eq!(empty, [start]);
}
