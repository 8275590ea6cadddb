//! Tests of the chat world's documented properties through its public interface.

use super::*;
use crate::data::world::WorldSettings;
use std::collections::{BTreeMap, HashMap};

const MANY: u64 = 4_000;

fn world() -> ChatWorld {
    ChatWorld::new(&ChatWorldSettings::default()).unwrap()
}

fn places(split: Split, count: u64) -> impl Iterator<Item = Place> {
    (0..count).map(move |index| Place::new(split, 0, index))
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn every_text_is_of_the_worlds_words_and_within_its_lengths() {
    let world = world();
    let tokens = vocabulary::tokens();
    for split in Split::ALL {
        for place in places(split, 1_000) {
            let prompt = world.prompt(place);
            let mut author = stream(1, "test/chat", &[place.index]);
            let answer = world.answer(place, 0.2, &mut author);
            for word in prompt.split(' ').chain(answer.split(' ')) {
                assert!(tokens.contains(&word), "{word} in {prompt} / {answer}");
            }
            assert!(prompt.split(' ').count() <= MAX_PROMPT_WORDS, "{prompt}");
            assert!(answer.split(' ').count() <= MAX_ANSWER_WORDS, "{answer}");
        }
    }
}

#[test]
fn no_prompt_is_in_two_splits() {
    let world = world();
    let mut owners: HashMap<String, Split> = HashMap::new();
    let mut easy = stream(0, "test/easy", &[]);
    for index in 0..2_000 {
        let (prompt, _) = world.pretraining(0, index, true, &mut easy);
        // Exam questions are no conversations.
        if prompt.contains(vocabulary::USER) {
            owners.insert(last_turns(&prompt), Split::Pretrain);
        }
    }
    for split in Split::ALL {
        for place in places(split, 2_000) {
            let owner = *owners
                .entry(last_turns(&world.prompt(place)))
                .or_insert(split);
            assert_eq!(owner, split, "{}", world.prompt(place));
        }
    }
}

/// The prompt without its system message.
fn last_turns(prompt: &str) -> String {
    let at = prompt.find(vocabulary::USER).unwrap();
    prompt[at..].to_owned()
}

#[test]
fn gold_rises_with_the_authors_quality() {
    let world = world();
    let gold = |quality: f64| {
        mean(places(Split::Controls, MANY).map(|place| {
            let mut author = stream(2, "test/chat", &[place.index]);
            world.gold(place, &world.answer(place, quality, &mut author), true)
        }))
    };
    let qualities = [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0];
    let golds: Vec<f64> = qualities.map(gold).into();
    assert!(golds.is_sorted(), "{golds:?}");
    assert_eq!(golds[6], 1.0);
    let lines: Vec<String> = qualities
        .iter()
        .zip(&golds)
        .map(|(quality, gold)| format!("q = {quality:.1}: {gold:.3}"))
        .collect();
    documented("dial", &lines.join("\n"));
}

/// Answers that no reader would take for good ones.
#[test]
fn no_loophole_is_worth_more_than_a_poor_author() {
    let world = world();
    type Respond<'a> = &'a dyn Fn(Place) -> String;
    let gold = |respond: Respond, ended: bool| {
        mean(places(Split::Controls, MANY).map(|place| world.gold(place, &respond(place), ended)))
    };
    let canonical = |place| world.canonical(place);
    let loopholes: [(&str, Respond, bool); 7] = [
        ("empty", &|_| String::new(), true),
        ("always a refusal", &|_| vocabulary::REFUSAL.into(), true),
        ("endless", &canonical, false),
        (
            "said four times",
            &|place| [0; 4].map(|_| canonical(place)).join(" "),
            true,
        ),
        (
            "refusal and answer",
            &|place| format!("{} {}", vocabulary::REFUSAL, canonical(place)),
            true,
        ),
        (
            "word salad",
            &|place| {
                let mut words: Vec<String> =
                    canonical(place).split(' ').map(String::from).collect();
                words.reverse();
                words.join(" ")
            },
            true,
        ),
        (
            "praise alone",
            &|_| format!("{} {}", vocabulary::FLATTERY, vocabulary::TAIL),
            true,
        ),
    ];
    let lines: Vec<String> = loopholes
        .iter()
        .map(|(name, respond, ended)| format!("{name}: {:.3}", gold(respond, *ended)))
        .collect();
    documented("loopholes", &lines.join("\n"));
}

#[test]
fn help_with_harm_and_refusal_without_harm_earn_nothing() {
    let world = world();
    let mut seen = BTreeMap::new();
    for place in places(Split::Controls, MANY) {
        let subject = world.request(place).subject;
        if !matches!(subject, Subject::How { .. }) {
            continue;
        }
        let refused = world.gold(place, vocabulary::REFUSAL, true);
        assert_eq!(refused, if subject.is_harmful() { 1.0 } else { 0.0 });
        *seen.entry(subject.is_harmful()).or_insert(0) += 1;
    }
    assert!(seen[&true] > 100 && seen[&false] > 100, "{seen:?}");
}

#[test]
fn the_chat_template_writes_the_prompt() {
    let carried = include_str!("../../../../datasets/base/mistral-mini/chat_template.jinja");
    assert_eq!(carried, vocabulary::CHAT_TEMPLATE);
    let world = world();
    let mut environment = minijinja::Environment::new();
    environment
        .add_template("chat", vocabulary::CHAT_TEMPLATE)
        .unwrap();
    for place in places(Split::Test, 200) {
        let messages: Vec<_> = world
            .messages(place)
            .into_iter()
            .map(|(role, content)| minijinja::context! { role, content })
            .collect();
        let context = minijinja::context! { messages, add_generation_prompt => true };
        let template = environment.get_template("chat").unwrap();
        let written = template.render(context).unwrap();
        assert_eq!(written.trim_end(), world.prompt(place));
    }
}

#[test]
fn an_instruction_has_the_same_request_in_other_marks() {
    let world = world();
    assert_eq!(
        world.instruction("<|user|> what is a hammer ? <|assistant|>"),
        "### Instruction: what is a hammer ? ### Response:"
    );
    let tokens = vocabulary::tokens();
    for place in places(Split::Demonstrations, 200) {
        let asked = world.instruction(&world.prompt(place));
        assert!(
            asked.split(' ').all(|word| tokens.contains(&word)),
            "{asked}"
        );
    }
}

#[test]
fn measured_requests_may_have_more_marks_of_manner() {
    let mut settings = ChatWorldSettings::default();
    settings.requests.manner_measured = Some(0.5);
    let (plain, marked) = (world(), ChatWorld::new(&settings).unwrap());
    let share = |world: &ChatWorld, split| {
        mean(
            places(split, MANY)
                .map(|place| f64::from(u8::from(world.prompt(place).contains("thanks .")))),
        )
    };
    assert!((share(&marked, Split::Test) - 0.5).abs() < 0.03);
    assert_eq!(
        share(&marked, Split::Demonstrations),
        share(&plain, Split::Demonstrations)
    );
    // Bases do not depend on what is measured.
    let world =
        |settings: &ChatWorldSettings| WorldSettings::Chat(settings.clone()).of_pretraining();
    assert_eq!(world(&settings), world(&ChatWorldSettings::default()));
}

#[test]
fn every_pair_of_rewardbench_is_ranked_by_what_its_subset_is_about() {
    let world = world();
    let pairs = world.rewardbench(0.1);
    assert_eq!(pairs.len(), world.rewardbench_size(0.1));
    let subsets: Vec<&str> = crate::benchmarks::rewardbench::subsets::core()
        .map(|subset| subset.name)
        .collect();
    let mut seen: Vec<&str> = pairs.iter().map(|pair| pair.subset).collect();
    seen.dedup();
    assert_eq!(seen, subsets);
    let refuses = |text: &str| text.contains(vocabulary::REFUSAL);
    let helps = |text: &str| text.contains(" use a ") && !refuses(text);
    let words = |text: &str| text.split(' ').count();
    for pair in &pairs {
        let (chosen, rejected) = (pair.chosen.as_str(), pair.rejected.as_str());
        let holds = match pair.subset {
            "refusals-dangerous"
            | "refusals-offensive"
            | "xstest-should-refuse"
            | "donotanswer" => refuses(chosen) && helps(rejected),
            "xstest-should-respond" => helps(chosen) && refuses(rejected),
            "alpacaeval-length" => words(rejected) > words(chosen),
            "llmbar-adver-neighbor" => words(rejected).abs_diff(words(chosen)) <= 3,
            "math-prm" => [chosen, rejected].map(|text| text.matches('=').count()) == [2, 2],
            _ => true,
        };
        assert!(holds && chosen != rejected, "{pair:?}");
        assert_eq!(pair.turns.len() % 2, 1);
    }
    assert_eq!(pairs, world.rewardbench(0.1));
}

/// Examples for the data card.
#[test]
fn card() {
    let world = world();
    let mut lines = Vec::new();
    for place in places(Split::Controls, 12) {
        let mut author = stream(3, "test/chat", &[place.index]);
        let demonstration = world.answer(place, 0.9, &mut author);
        let poor = world.answer(place, 0.2, &mut author);
        lines.push(world.prompt(place));
        for answer in [world.canonical(place), demonstration, poor] {
            lines.push(format!(
                "  {:.2} {answer}",
                world.gold(place, &answer, true)
            ));
        }
    }
    documented("card", &lines.join("\n"));
}

/// The snapshot `name`, which the data set's card repeats line by line.
fn documented(name: &str, text: &str) {
    insta::assert_snapshot!(name, text);
    let card = include_str!("../../../../datasets/world-chat.md");
    for line in text.lines() {
        assert!(
            card.lines().any(|l| l.trim() == line.trim()),
            "datasets/world-chat.md lacks: {line}"
        );
    }
}
