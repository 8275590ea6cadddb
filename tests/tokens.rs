//! Text to tokens: the prompt of the TL;DR task and its truncation, ends of responses, the words of the embedded world.

mod common;

use common::{Bench, fixture};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};
use touchstone::data::codec::END_OF_TEXT;
use touchstone::data::dataset::SummarisedPost;
use touchstone::data::world::{Split, World, WorldSettings};
use touchstone::data::{Codec, corpus, tldr};

// --- The embedded world ---

/// Checkpoints hold rows of embeddings by these numbers: they must not move without a new version of the world.
#[test]
fn words_of_the_world_keep_their_numbers() {
    let world = World::new(&WorldSettings::default()).unwrap();
    let tokenizer = world.tokenizer().unwrap();
    let post = world.post(Split::Validation, 0, 0);
    let mut text = format!("vocabulary: {}\n", tokenizer.get_vocab_size(true));
    for special in [END_OF_TEXT, "<|padding|>"] {
        text.push_str(&format!("{special} {:?}\n", tokenizer.token_to_id(special).unwrap()));
    }
    for sentence in [post.prompt.clone(), world.canonical(&post)] {
        let encoding = tokenizer.encode_fast(sentence.as_str(), false).unwrap();
        assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), sentence);
        let words = sentence.split_whitespace().zip(encoding.get_ids()).map(|(word, id)| format!("{word} {id}"));
        text.push_str(&format!("\n{}\n", words.collect::<Vec<_>>().join("\n")));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_word_from_outside_the_world_is_an_error_and_no_guess() {
    let tokenizer = World::new(&WorldSettings::default()).unwrap().tokenizer().unwrap();
    let error = Codec::new(tokenizer, 64, 40).unwrap().response("xylophone").expect_err("an unknown word was encoded");
    assert!(error.to_string().contains("xylophone"), "{error}");
}

// --- Real posts ---

/// Writes the tokenizer of the fixture: byte-level, as that of Pythia is.
#[test]
#[ignore = "writes a fixture; run it when posts.jsonl changes"]
fn train_the_fixture_s_tokenizer() {
    let rows = corpus::read(&fixture("tldr/posts.jsonl")).unwrap();
    let texts = rows.iter().flat_map(|row| [tldr::prompt(&row.post), tldr::response(&row.summary)]);
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(512)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from("<|endoftext|>", true), AddedToken::from("<|padding|>", true)])
        .build();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.train(&mut TrainerWrapper::from(trainer), texts).unwrap();
    tokenizer.save(fixture("tldr/tokenizer.json"), false).unwrap();
}

fn codec(max_prompt_tokens: usize) -> Codec {
    Codec::new(Tokenizer::from_file(fixture("tldr/tokenizer.json")).unwrap(), max_prompt_tokens, 24).unwrap()
}

// --- Text to tokens ---

#[test]
fn prompts_are_those_of_the_task_and_long_posts_lose_their_end() {
    let rows = corpus::read(&fixture("tldr/posts.jsonl")).unwrap();
    assert_eq!(rows.len(), 12);
    let mut text = format!("whole:\n{}{}\n", tldr::prompt(&rows[1].post), tldr::response(&rows[1].summary));
    for limit in [150, 96, 48] {
        let codec = codec(limit);
        let prompt = tldr::fitted(&rows[1].post, &codec).unwrap();
        text.push_str(&format!("\nat most {limit} tokens, {}:\n{prompt}\n", codec.prompt_length(&prompt).unwrap()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_prompt_fits_and_keeps_its_frame() {
    for row in corpus::read(&fixture("tldr/posts.jsonl")).unwrap() {
        for limit in [64, 96, 150, 1000] {
            let codec = codec(limit);
            let prompt = tldr::fitted(&row.post, &codec).unwrap();
            let head = format!("SUBREDDIT: r/{}\n\nTITLE: {}\n\nPOST: ", row.post.subreddit, row.post.title);
            let body = prompt.strip_prefix(&head).and_then(|rest| rest.strip_suffix("\n\nTL;DR:")).expect(&prompt);
            assert!(row.post.post.starts_with(body) && codec.prompt(&prompt).unwrap().len() <= limit);
        }
    }
}

#[test]
fn responses_survive_the_way_to_tokens_and_back() {
    let codec = codec(96);
    for row in corpus::read(&fixture("tldr/posts.jsonl")).unwrap() {
        let response = codec.response(&tldr::response(&row.summary)).unwrap();
        assert!(response.ids.len() <= 24);
        assert_eq!(response.ended, response.ids.last() == Some(&codec.eos));
        let back = codec.decoded(response.ids.clone(), response.ended).unwrap();
        assert!(response.text.starts_with(back.text.trim_end_matches('\u{fffd}')), "{back:?}");
        assert!(!response.ended || back.text == response.text, "{back:?}");
    }
}

#[test]
fn a_csv_file_holds_the_same_rows() {
    let rows = corpus::read(&fixture("tldr/posts.jsonl")).unwrap();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |row: &SummarisedPost| {
        [&row.summary, &row.id, &row.post.subreddit, &row.post.title, &row.post.post]
            .map(|field| quoted(field))
            .join(",")
    };
    let csv = rows.iter().fold("summary,id,subreddit,title,post\n".to_owned(), |text, row| text + &line(row) + "\n");
    let bench = Bench::new();
    assert_eq!(corpus::read(&bench.write("posts.csv", csv)).unwrap(), rows);
}
