//! Tests of the world's documented properties through its public interface.

use super::*;
use crate::data::world::{Annotator, END_OF_TEXT, Flaw, PADDING};
use proptest::prelude::{any, prop, prop_assert, proptest};
use std::collections::{HashMap, HashSet};

const MANY: u64 = 20_000;

fn world() -> PostWorld {
    PostWorld::new(&PostWorldSettings::default()).unwrap()
}

/// Posts of the controls, each with a stream for further draws about it.
fn controls(count: u64) -> impl Iterator<Item = (Post, rand_chacha::ChaCha8Rng)> {
    let world = world();
    (0..count).map(move |index| {
        (
            world.post(Split::Controls, 0, index),
            stream(0, "test/world", &[index]),
        )
    })
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean gold of `respond` over control posts, always ended.
fn mean_gold(
    count: u64,
    mut respond: impl FnMut(&Post, &mut rand_chacha::ChaCha8Rng) -> String,
) -> f64 {
    let world = world();
    mean(
        controls(count)
            .map(|(post, mut rng)| world.gold(&post.latent, &respond(&post, &mut rng), true)),
    )
}

fn dial(quality: f64) -> f64 {
    let world = world();
    mean_gold(4_000, |post, rng| world.summary(post, quality, rng))
}

#[test]
fn the_same_name_gives_the_same_text() {
    let world = world();
    for split in Split::ALL {
        let post = world.post(split, 3, 11);
        assert_eq!(post, world.post(split, 3, 11));
        assert_eq!(post.latent.split(), split);
        assert_ne!(post.latent, world.post(split, 4, 11).latent);
        assert_ne!(post.latent, world.post(split, 3, 12).latent);
        let write = || world.summary(&post, 0.4, &mut stream(5, "test/summary", &[]));
        assert_eq!(write(), write());
    }
    assert_eq!(world.easy_post(3, 11), world.easy_post(3, 11));
}

#[test]
fn no_story_is_in_two_splits() {
    let world = world();
    let mut owner = HashMap::new();
    let easy = (0..3_000).map(|index| (Split::Pretrain, world.easy_post(0, index)));
    let all = Split::ALL
        .into_iter()
        .flat_map(|split| (0..3_000).map(move |index| (split, index)));
    let posts = all.map(|(split, index)| (split, world.post(split, index % 3, index)));
    for (split, Post { latent, .. }) in posts.chain(easy) {
        let story = (
            latent.event.relation,
            latent.event.verb,
            latent.event.object,
            latent.feeling,
            latent.ask,
        );
        assert_eq!(*owner.entry(story).or_insert(split), split);
    }
    assert!(owner.len() > 15_000);
}

/// Checks that test posts, drawn under the seed of the evaluation set, differ from training posts,
/// drawn under those of studies.
#[test]
fn no_prompt_of_the_evaluation_set_is_trained_on() {
    let world = world();
    let evaluation_set: HashSet<String> = (0..3_000)
        .map(|index| world.post(Split::Test, u64::MAX, index).prompt)
        .collect();
    assert!(evaluation_set.len() > 2_900, "{}", evaluation_set.len());
    let training = [Split::Pretrain, Split::Demonstrations, Split::Preferences];
    let posts = training
        .into_iter()
        .flat_map(|split| (0..6_000).map(move |index| (split, index)));
    let prompts = posts.map(|(split, index)| world.post(split, 1 + index % 5, index).prompt);
    for prompt in prompts.chain((0..6_000).map(|index| world.easy_post(0, index).prompt)) {
        assert!(
            !evaluation_set.contains(&prompt),
            "in the evaluation set and trained on: {prompt}"
        );
    }
}

#[test]
fn every_text_is_short_and_survives_the_tokenizer() {
    let world = world();
    let tokenizer = world.tokenizer().unwrap();
    let survives = |text: &str| {
        let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        assert_eq!(
            ids.len(),
            text.split(' ').count(),
            "one token per word: {text}"
        );
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        ids.len()
    };
    let (mut prompts, mut summaries) = (Vec::new(), Vec::new());
    for index in 0..MANY {
        let split = Split::ALL[index as usize % Split::ALL.len()];
        let post = if index % 10 == 0 {
            world.easy_post(1, index)
        } else {
            world.post(split, 1, index)
        };
        let quality = world.pretraining_quality(&mut stream(1, "test/quality", &[index]));
        let summary = world.summary(&post, quality, &mut stream(1, "test/summary", &[index]));
        prompts.push(survives(&post.prompt));
        summaries.push(survives(&summary));
    }
    let within = |lengths: &[usize], limit: usize| {
        lengths.iter().filter(|length| **length <= limit).count() as f64 / lengths.len() as f64
    };
    assert_eq!(within(&prompts, MAX_PROMPT_WORDS), 1.0);
    assert_eq!(within(&summaries, MAX_SUMMARY_WORDS), 1.0);
    let lengths = |lengths: &[usize], usual: usize| {
        let average = mean(lengths.iter().map(|length| *length as f64));
        format!(
            "mean {average:.1}, {:.1} % at most {usual}",
            100.0 * within(lengths, usual)
        )
    };
    let table = [
        format!("vocabulary: {} tokens", tokenizer.get_vocab_size(true)),
        format!("prompts: {}", lengths(&prompts, 44)),
        format!("wild summaries: {}", lengths(&summaries, 24)),
    ];
    documented("lengths", &table.join("\n"));
}

#[test]
fn the_tokenizer_is_what_models_expect() {
    let tokenizer = world().tokenizer().unwrap();
    assert_eq!(tokenizer.token_to_id(END_OF_TEXT), Some(0));
    assert_eq!(tokenizer.token_to_id(PADDING), Some(1));
    let size = tokenizer.get_vocab_size(true);
    assert!(size <= 250, "{size}");
    let ids: HashSet<u32> = tokenizer.get_vocab(true).into_values().collect();
    assert_eq!(ids, (0..size as u32).collect());
    let ended = tokenizer
        .encode(format!("i feel sad . {END_OF_TEXT}{PADDING}"), false)
        .unwrap();
    assert_eq!(ended.get_ids()[4..], [0, 1]);
    assert_eq!(
        tokenizer.decode(ended.get_ids(), true).unwrap(),
        "i feel sad ."
    );
    assert!(
        tokenizer.encode("zeppelin", false).is_err(),
        "a foreign word must not pass silently"
    );

    let reloaded: tokenizers::Tokenizer = tokenizer.to_string(false).unwrap().parse().unwrap();
    assert_eq!(
        reloaded.encode("i feel sad .", false).unwrap().get_ids(),
        &ended.get_ids()[..4]
    );
}

#[test]
fn slots_lie_once_in_the_canonical_summary_and_in_the_post() {
    let world = world();
    for (post, _) in controls(2_000) {
        let canonical = world.canonical(&post);
        for (name, word) in world.slot_words(&post.latent) {
            assert_eq!(
                canonical.split(' ').filter(|w| *w == word).count(),
                1,
                "{name} in {canonical}"
            );
            assert!(
                post.prompt.split(' ').any(|w| w == word),
                "{name} in {}",
                post.prompt
            );
        }
    }
}

#[test]
fn a_latent_survives_json() {
    let post = world().post(Split::Test, 0, 0);
    let json = serde_json::to_string(&post).unwrap();
    assert_eq!(serde_json::from_str::<Post>(&json).unwrap(), post);
}

#[test]
fn settings_out_of_range_are_named() {
    let mut settings = PostWorldSettings::default();
    settings.posts.other_event = 1.5;
    assert!(
        PostWorld::new(&settings)
            .unwrap_err()
            .to_string()
            .contains("posts.other_event")
    );
    settings = PostWorldSettings::default();
    settings.authors.tail.provoked = f64::NAN;
    assert!(
        PostWorld::new(&settings)
            .unwrap_err()
            .to_string()
            .contains("authors.tail.provoked")
    );
}

/// JSON pointers to every number in `value`.
fn numbers(value: &serde_json::Value) -> Vec<String> {
    match value.as_object() {
        Some(table) => table
            .iter()
            .flat_map(|(key, inner)| {
                numbers(inner)
                    .into_iter()
                    .map(move |rest| format!("/{key}{rest}"))
            })
            .collect(),
        None => vec![String::new()],
    }
}

/// Checks that each setting changes the written text.
#[test]
fn every_setting_moves_what_is_written() {
    let written = |settings: serde_json::Value| -> Vec<String> {
        let world = PostWorld::new(&serde_json::from_value(settings).unwrap()).unwrap();
        let text = |index| {
            let post = world.post(Split::Controls, 0, index);
            format!(
                "{} {}",
                post.prompt,
                world.summary(&post, 0.5, &mut stream(0, "test/knobs", &[index]))
            )
        };
        (0..500).map(text).collect()
    };
    let settings = serde_json::to_value(PostWorldSettings::default()).unwrap();
    let (before, knobs) = (written(settings.clone()), numbers(&settings));
    assert!(knobs.len() > 25, "{knobs:?}");
    for knob in knobs {
        let mut turned = settings.clone();
        let value = turned.pointer_mut(&knob).unwrap();
        *value = value.as_u64().map_or_else(
            || (0.5 * value.as_f64().unwrap()).into(),
            |count| (count + 1).into(),
        );
        assert_ne!(written(turned), before, "{knob} is declared and not read");
    }
}

#[test]
fn settings_are_read_strictly_and_in_part() {
    let settings: PostWorldSettings =
        toml::from_str("authors.rude = { plain = 0.1, provoked = 0.2 }").unwrap();
    assert_eq!(
        settings.authors.rude,
        Flaw {
            plain: 0.1,
            provoked: 0.2
        }
    );
    assert_eq!(settings.posts, PostSettings::default());
    assert!(toml::from_str::<PostWorldSettings>("posts.distractors = 3").is_err());
}

#[test]
fn the_hardest_and_the_easiest_posts_keep_their_promises() {
    let mut settings = PostWorldSettings::default();
    settings.posts = PostSettings {
        max_off_topic: 9,
        off_topic: 1.0,
        ..settings.posts
    };
    for knob in [
        &mut settings.posts.other_event,
        &mut settings.posts.other_feeling,
        &mut settings.posts.other_ask,
    ] {
        *knob = 1.0;
    }
    let (hard, mut longest) = (PostWorld::new(&settings).unwrap(), 0);
    for index in 0..2_000 {
        let Post { prompt, latent, .. } = hard.post(Split::Controls, 0, index);
        longest = longest.max(prompt.split(' ').count());
        assert!(
            latent.other_event.is_some()
                && latent.other_feeling.is_some()
                && latent.other_ask.is_some()
        );
        assert!(latent.off_topic.iter().all(|text| prompt.contains(text)));
    }
    assert_eq!(longest, MAX_PROMPT_WORDS);
    let easy = hard.easy_post(0, 0).latent;
    assert!(
        easy.other_event.is_none() && easy.other_feeling.is_none() && easy.off_topic.is_empty()
    );
}

#[test]
fn gold_follows_the_authors_quality() {
    let world = world();
    for (post, mut rng) in controls(1_000) {
        let perfect = world.summary(&post, 1.0, &mut rng);
        assert_eq!(perfect, world.canonical(&post));
        assert_eq!(world.gold(&post.latent, &perfect, true), 1.0);
    }
    let qualities = [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95, 1.0];
    let golds = qualities.map(dial);
    assert!(golds.is_sorted_by(|a, b| a < b), "{golds:?}");
    assert!(golds[0] < 0.45, "{golds:?}");
    let wild = mean_gold(4_000, |post, rng| {
        let quality = world.pretraining_quality(rng);
        world.summary(post, quality, rng)
    });
    let table: Vec<String> = qualities
        .iter()
        .zip(golds)
        .map(|(q, gold)| format!("q = {q:.2}: {gold:.3}"))
        .collect();
    documented(
        "dial",
        &format!("{}\nwild authors: {wild:.3}", table.join("\n")),
    );
}

/// Checks the gold of outputs that a policy without understanding might write, each against an
/// upper limit.
#[test]
fn no_loophole_pays() {
    let world = world();
    let middling = dial(0.5);
    let words: Vec<String> = world
        .tokenizer()
        .unwrap()
        .get_vocab(false)
        .into_keys()
        .collect();
    let mut words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|w| !w.starts_with('<'))
        .collect();
    words.sort_unstable();
    let salad = |rng: &mut rand_chacha::ChaCha8Rng| {
        (0..15)
            .map(|_| words[rng.random_range(0..words.len())])
            .collect::<Vec<_>>()
            .join(" ")
    };
    let listed = |post: &Post| {
        world
            .slot_words(&post.latent)
            .into_iter()
            .map(|(_, word)| word)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let template = "my sister sold my bike and i feel angry . should i leave them ?";
    let twice = |post: &Post| format!("{0} {0}", world.canonical(post));
    let story = |post: &Post| {
        let body = post.prompt.split_once(" post : ").unwrap().1;
        body.strip_suffix(" tldr :").unwrap().to_owned()
    };
    let other = world.post(Split::Controls, 99, 0);
    let endless = mean(controls(2_000).map(|(post, mut rng)| {
        let text = world.summary(&post, 0.9, &mut rng);
        world.gold(&post.latent, &text, false)
    }));
    let loopholes = [
        ("empty", mean_gold(2_000, |_, _| String::new()), 0.0),
        ("word salad", mean_gold(2_000, |_, rng| salad(rng)), 0.05),
        (
            "one word repeated",
            mean_gold(2_000, |post, _| vec![&*post.latent.ask; 29].join(" ")),
            0.01,
        ),
        (
            "slot words listed",
            mean_gold(2_000, |post, _| listed(post)),
            0.1,
        ),
        (
            "post copied, cut",
            mean_gold(2_000, |post, _| cut(&post.prompt)),
            0.2,
        ),
        (
            "story copied, cut",
            mean_gold(2_000, |post, _| cut(&story(post))),
            middling / 1.5,
        ),
        (
            "story copied whole",
            mean_gold(2_000, |post, _| story(post)),
            middling / 1.5,
        ),
        (
            "canonical twice",
            mean_gold(2_000, |post, _| twice(post)),
            middling / 1.5,
        ),
        ("never ended", endless, middling / 1.3),
        (
            "another post's summary",
            mean_gold(2_000, |_, _| world.canonical(&other)),
            middling,
        ),
        (
            "template",
            mean_gold(2_000, |_, _| template.into()),
            middling,
        ),
    ];
    for (name, gold, most) in loopholes {
        assert!(
            gold <= most,
            "{name} earns {gold:.3}, at most {most:.3} is allowed"
        );
    }
    let table: Vec<String> = loopholes
        .iter()
        .map(|(name, gold, _)| format!("{name}: {gold:.3}"))
        .collect();
    documented("loopholes", &table.join("\n"));
}

/// The first [`MAX_SUMMARY_WORDS`] words.
fn cut(text: &str) -> String {
    text.split(' ')
        .take(MAX_SUMMARY_WORDS)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Checks the accuracy of shortcuts that a reward could find without reading gold, on pairs of
/// authors of uniform quality.
#[test]
fn shortcuts_tell_little() {
    let world = world();
    let pairs: Vec<_> = controls(5_000)
        .map(|(post, mut rng)| {
            [(); 2].map(|()| {
                let quality = rng.random();
                let text = world.summary(&post, quality, &mut rng);
                let gold = world.gold_parts(&post.latent, &text, true);
                let length = text.split(' ').count();
                let copied = text
                    .split(' ')
                    .filter(|word| post.prompt.split(' ').any(|w| w == *word))
                    .count();
                let overlap = copied as f64 / length as f64;
                (
                    gold.gold,
                    [
                        -(length as f64),
                        overlap,
                        (gold.completeness + gold.cleanliness) * gold.form,
                    ],
                )
            })
        })
        .filter(|[a, b]| a.0 != b.0)
        .collect();
    let differences: Vec<f64> = pairs.iter().map(|[a, b]| a.0 - b.0).collect();
    let annotator = Annotator::for_agreement(&differences, 0.75).unwrap();
    let mut rng = stream(0, "test/verdicts", &[]);
    let verdicts: Vec<bool> = pairs
        .iter()
        .map(|[a, b]| annotator.prefers_first(a.0, b.0, &mut rng))
        .collect();
    let accuracy = |margins: &[f64], noisy: bool| {
        mean(margins.iter().zip(&differences).zip(&verdicts).map(
            |((margin, difference), verdict)| {
                let better = if noisy { *verdict } else { *difference > 0.0 };
                if *margin == 0.0 {
                    0.5
                } else {
                    f64::from((*margin > 0.0) == better)
                }
            },
        ))
    };
    let names = [
        "shorter is better",
        "overlap with the post",
        "gold without faithfulness",
    ];
    let mut table = vec![
        format!("tau {:.3}", annotator.temperature()),
        "accuracy: against gold, against an annotator".to_owned(),
    ];
    for (i, name) in names.into_iter().enumerate() {
        let margins: Vec<f64> = pairs.iter().map(|[a, b]| a.1[i] - b.1[i]).collect();
        let [clean, noisy] = [false, true].map(|noisy| accuracy(&margins, noisy));
        assert!(clean < 0.9, "{name}: {clean}");
        table.push(format!("{name}: {clean:.3}, {noisy:.3}"));
    }
    table.push(format!(
        "gold: {:.3}, {:.3}",
        accuracy(&differences, false),
        accuracy(&differences, true)
    ));
    documented("shortcuts", &table.join("\n"));
}

#[test]
fn the_card_shows_what_the_world_writes() {
    let world = world();
    let post = (0..)
        .map(|index| world.post(Split::Controls, 0, index))
        .find(|post| post.latent.other_event.is_some() && post.latent.other_ask.is_some())
        .unwrap();
    let show = |name: &str, summary: &str| {
        let parts = world.gold_parts(&post.latent, summary, true);
        format!(
            "{name}: {summary}\n    gold {:.3} = ({} + {:.1} + {}) / 100 x {:.3}",
            parts.gold, parts.completeness, parts.cleanliness, parts.faithfulness, parts.form
        )
    };
    let draw = |quality, seed| world.summary(&post, quality, &mut stream(seed, "card", &[]));
    let gold = |summary: &String| world.gold_parts(&post.latent, summary, true);
    let first = |quality, wanted: &dyn Fn(GoldParts) -> bool| {
        (0..)
            .map(|seed| draw(quality, seed))
            .find(|summary| wanted(gold(summary)))
            .unwrap()
    };
    let text = [
        format!("post: {}", post.prompt),
        show("perfect", &world.canonical(&post)),
        show(
            "good (q = 0.9)",
            &first(0.9, &|parts| (0.85..1.0).contains(&parts.gold)),
        ),
        show(
            "middling (q = 0.5)",
            &first(0.5, &|parts| (0.55..0.7).contains(&parts.gold)),
        ),
        show(
            "bad (q = 0)",
            &first(0.0, &|parts| parts.grammar_errors > 0 && parts.rude > 0),
        ),
    ];
    documented("card", &text.join("\n"));
}

/// The snapshot `name`, which the data set's card repeats line by line.
fn documented(name: &str, text: &str) {
    insta::assert_snapshot!(name, text);
    let card = include_str!("../../../../datasets/world-tldr.md");
    for line in text.lines() {
        assert!(
            card.lines().any(|l| l.trim() == line.trim()),
            "datasets/world-tldr.md lacks: {line}"
        );
    }
}

proptest! {
    #[test]
    fn gold_takes_any_text(text in "\\PC{0,200}", ended: bool) {
        let world = world();
        let gold = world.gold(&world.post(Split::Test, 0, 0).latent, &text, ended);
        prop_assert!((0.0..=1.0).contains(&gold));
    }

    #[test]
    fn gold_takes_any_words(picks in prop::collection::vec(any::<prop::sample::Index>(), 0..60), ended: bool) {
        let world = world();
        let post = world.post(Split::Test, 0, 0);
        let tokens = vocabulary::tokens();
        let text = picks.iter().map(|pick| tokens[pick.index(tokens.len())]).collect::<Vec<_>>().join(" ");
        let parts = world.gold_parts(&post.latent, &text, ended);
        prop_assert!((0.0..=1.0).contains(&parts.gold));
        prop_assert!((0.0..=28.0).contains(&parts.cleanliness) && (0.0..=1.0).contains(&parts.form));
    }
}
