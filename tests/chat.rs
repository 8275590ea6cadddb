//! Tests of conversations through the library, against texts, tokens and masks of transformers
//! (`fixtures/chat/make.py`).

use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use touchstone::model::{Ends, ModelTokenizer};
use touchstone::tasks::chat::{
    ChatEncoder, ChatRules, ChatTemplate, ControlNames, Conversation, ConversationPair, Loss,
    Message, Role, SpecialTokens, SystemRule, TooLong,
};

/// A file of goldens. Files from other projects contain only texts.
#[derive(Deserialize)]
struct Goldens {
    templates: BTreeMap<String, Source>,
    cases: BTreeMap<String, Vec<Message>>,
    rendered: Vec<Text>,
    #[serde(default)]
    encoded: Vec<Tokens>,
}

#[derive(Deserialize)]
struct Source {
    template: String,
    bos_token: String,
    eos_token: String,
}

#[derive(Deserialize)]
struct Text {
    template: String,
    case: String,
    add_generation_prompt: bool,
    ok: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    tokenizer: String,
    template: String,
    case: String,
    ids: Vec<u32>,
    mask: Vec<u8>,
}

impl Goldens {
    fn read(path: &Path) -> Self {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn template(&self, name: &str) -> ChatTemplate {
        let Source {
            template,
            bos_token,
            eos_token,
        } = &self.templates[name];
        let tokens = SpecialTokens::default()
            .with("bos_token", bos_token)
            .with("eos_token", eos_token);
        ChatTemplate::new(name, template, tokens).unwrap()
    }

    /// Checks every text and returns their number.
    fn check_texts(&self) -> usize {
        for golden in &self.rendered {
            let place = format!(
                "{}, {}, {}",
                golden.template, golden.case, golden.add_generation_prompt
            );
            let found = self
                .template(&golden.template)
                .render(&self.cases[&golden.case], golden.add_generation_prompt);
            match (&golden.ok, &golden.error) {
                (Some(text), _) => assert_eq!(&found.unwrap().text, text, "{place}"),
                (None, raised) => {
                    let raised = raised.as_deref().unwrap_or_default();
                    let told = found.expect_err(&place).to_string();
                    // All other errors are Python's own.
                    let by_template = self.templates[&golden.template].template.contains(raised);
                    assert!(!by_template || told.contains(raised), "{place}: {told}");
                }
            }
        }
        self.rendered.len()
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/chat")
        .join(name)
}

fn goldens() -> &'static Goldens {
    static GOLDENS: LazyLock<Goldens> = LazyLock::new(|| Goldens::read(&fixture("goldens.json")));
    &GOLDENS
}

const RULES: ChatRules = ChatRules {
    system: SystemRule::AsGiven,
    loss: Loss::EveryTurn,
    control_names: ControlNames::Text,
    max_tokens: 4096,
    too_long: TooLong::Refuse,
};

fn tokenizer(kind: &str) -> ModelTokenizer {
    ModelTokenizer::open(&fixture(kind)).unwrap()
}

/// An encoder whose end tokens are `</s>` and `<|im_end|>`.
fn encoder(template: ChatTemplate, kind: &str, rules: ChatRules) -> ChatEncoder {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer(kind);
    let id = |token: &str| tokenizer.token_to_id(token).unwrap();
    let config = format!(
        r#"{{"eos_token_id": [{}, {}]}}"#,
        id("</s>"),
        id("<|im_end|>")
    );
    fs::write(folder.path().join("generation_config.json"), config).unwrap();
    let ends =
        Ends::of_folder(folder.path(), Some(&tokenizer), tokenizer.vocabulary_size()).unwrap();
    ChatEncoder::new(template, tokenizer, ends, rules).unwrap()
}

fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

fn assistant(text: &str) -> Message {
    Message::new(Role::Assistant, text)
}

fn conversation(messages: impl Into<Vec<Message>>) -> Conversation {
    Conversation::new("rows, line 3", messages.into()).unwrap()
}

/// The text of tokens, including the names of control tokens, which decode to nothing.
fn spelled(kind: &str, ids: &[u32]) -> String {
    let tokenizer = tokenizer(kind);
    let controls = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"];
    let name = |id| {
        controls
            .into_iter()
            .find(|name| tokenizer.token_to_id(name) == Some(id))
    };
    let piece =
        |id: &u32| name(*id).map_or_else(|| tokenizer.decode(&[*id]).unwrap(), str::to_owned);
    ids.iter().map(piece).collect()
}

#[test]
fn texts_are_those_of_transformers() {
    assert_eq!(goldens().check_texts(), 264);
}

#[test]
fn texts_of_other_goldens_are_those_of_transformers() {
    if let Some(path) = std::env::var_os("TOUCHSTONE_CHAT_GOLDENS") {
        assert!(Goldens::read(Path::new(&path)).check_texts() > 0);
    }
}

#[test]
fn tokens_and_masks_are_those_of_transformers() {
    let goldens = goldens();
    assert_eq!(goldens.encoded.len(), 52);
    for golden in &goldens.encoded {
        let place = format!("{}, {}, {}", golden.tokenizer, golden.template, golden.case);
        let row = conversation(goldens.cases[&golden.case].clone());
        let encoder = encoder(goldens.template(&golden.template), &golden.tokenizer, RULES);
        let found = encoder.conversation(&row).unwrap();
        assert_eq!(found.ids, golden.ids, "{place}");
        assert_eq!(
            found.supervised,
            golden.mask.iter().map(|bit| *bit == 1).collect::<Vec<_>>(),
            "{place}"
        );
    }
}

#[test]
fn every_path_begins_with_one_beginning() {
    let goldens = goldens();
    let row = conversation([user("Hi <s>"), assistant("Hello.")]);
    for names in [ControlNames::Text, ControlNames::Tokens] {
        for (kind, template) in [
            ("byte", "zephyr"),
            ("llama", "zephyr"),
            ("byte", "instruct"),
            ("llama", "instruct"),
        ] {
            let encoder = encoder(
                goldens.template(template),
                kind,
                ChatRules {
                    control_names: names,
                    ..RULES
                },
            );
            let begin = tokenizer(kind).token_to_id("<s>").unwrap();
            let sequence = encoder.sequence(&row).unwrap();
            let all = [sequence.prompt.clone(), sequence.response].concat();
            for ids in [
                encoder.conversation(&row).unwrap().ids,
                encoder.prompt(&row).unwrap(),
                sequence.prompt,
                all,
            ] {
                assert_eq!(
                    ids.iter().position(|id| *id == begin),
                    Some(0),
                    "{kind} {template} {names:?}"
                );
                assert_eq!(
                    ids.iter().filter(|id| **id == begin).count(),
                    1,
                    "{kind} {template} {names:?}"
                );
            }
        }
    }
}

#[test]
fn names_of_control_tokens_in_messages_are_text_or_tokens() {
    let goldens = goldens();
    let row = conversation(goldens.cases["names"].clone());
    for kind in ["byte", "llama"] {
        let sequence = |control_names| {
            encoder(
                goldens.template("zephyr"),
                kind,
                ChatRules {
                    control_names,
                    ..RULES
                },
            )
            .sequence(&row)
            .unwrap()
        };
        let (as_text, as_tokens) = (sequence(ControlNames::Text), sequence(ControlNames::Tokens));
        let end = tokenizer(kind).token_to_id("</s>").unwrap();
        let ends = |ids: &[u32]| ids.iter().filter(|id| **id == end).count();
        assert_eq!(
            (ends(&as_text.prompt), ends(&as_text.response)),
            (1, 1),
            "{kind}"
        );
        assert_eq!(
            (ends(&as_tokens.prompt), ends(&as_tokens.response)),
            (2, 2),
            "{kind}"
        );
    }
    let sequence = encoder(goldens.template("zephyr"), "byte", RULES)
        .sequence(&row)
        .unwrap();
    assert_eq!(
        spelled("byte", &sequence.prompt),
        "<s><|user|>\nan <s>old</s> tag</s>\n<|assistant|>\n"
    );
    assert_eq!(spelled("byte", &sequence.response), "a </s> b</s>");
}

#[test]
fn the_end_of_a_turn_is_trained_on_wherever_the_template_has_it() {
    let rows = [user("q"), assistant("a"), user("r"), assistant("b")];
    let trained = |source: &str, loss| {
        let tokens = SpecialTokens::default().with("eos_token", "</s>");
        let template = ChatTemplate::new("t", source, tokens).unwrap();
        let found = encoder(template, "byte", ChatRules { loss, ..RULES })
            .conversation(&conversation(rows.clone()))
            .unwrap();
        let ids: Vec<u32> = found
            .ids
            .iter()
            .zip(&found.supervised)
            .filter(|(_, on)| **on)
            .map(|(id, _)| *id)
            .collect();
        spelled("byte", &ids)
    };
    let outside = "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ m.content }}\
                   {% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}";
    assert_eq!(trained(outside, Loss::EveryTurn), "a</s>b</s>");
    assert_eq!(trained(outside, Loss::LastTurn), "b</s>");
    let without_end = "{% for m in messages %}{{ m.role + ':' + m.content }}\n\n{% endfor %}\
                       {% if add_generation_prompt %}assistant:{% endif %}";
    assert_eq!(trained(without_end, Loss::EveryTurn), "a\n\nb\n\n</s>");
    let closing = &goldens().templates["closing"].template;
    assert_eq!(
        trained(&closing.replace("{{ bos_token }}", ""), Loss::EveryTurn),
        "a<|im_end|>b<|im_end|>\n</s>"
    );
}

#[test]
fn a_template_that_rewrites_old_turns_trains_on_the_last_alone() {
    let goldens = goldens();
    let row = conversation(
        goldens.cases["open"]
            .iter()
            .cloned()
            .chain([assistant("d")])
            .collect::<Vec<_>>(),
    );
    let encoder = |loss| {
        encoder(
            goldens.template("thinking"),
            "byte",
            ChatRules { loss, ..RULES },
        )
    };
    let error = encoder(Loss::EveryTurn)
        .conversation(&row)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("rows, line 3: thinking writes the first messages in another way"),
        "{error}"
    );
    assert_eq!(
        spelled(
            "byte",
            &encoder(Loss::LastTurn).sequence(&row).unwrap().response
        ),
        "d<|im_end|>"
    );
}

#[test]
fn the_system_rule_decides_about_a_system_message() {
    let goldens = goldens();
    let text = |system, messages: &[Message]| {
        let encoder = encoder(
            goldens.template("zephyr"),
            "byte",
            ChatRules { system, ..RULES },
        );
        encoder
            .prompt(&conversation(messages))
            .map(|ids| spelled("byte", &ids))
    };
    let without = [user("q")];
    let with = [Message::new(Role::System, "s"), user("q")];
    let asked = "<|user|>\nq</s>\n<|assistant|>\n";
    assert_eq!(
        text(SystemRule::AsGiven, &without).unwrap(),
        format!("<s>{asked}")
    );
    assert_eq!(
        text(SystemRule::EmptyIfAbsent, &without).unwrap(),
        format!("<s><|system|>\n</s>\n{asked}")
    );
    assert_eq!(
        text(SystemRule::EmptyIfAbsent, &with).unwrap(),
        format!("<s><|system|>\ns</s>\n{asked}")
    );
    assert_eq!(
        text(SystemRule::Refuse, &without).unwrap(),
        format!("<s>{asked}")
    );
    let error = text(SystemRule::Refuse, &with).unwrap_err().to_string();
    assert_eq!(
        error,
        "rows, line 3: there is a system message, which this task does not take"
    );
}

#[test]
fn turns_left_out_are_the_same_in_both_halves_of_a_pair() {
    let goldens = goldens();
    let rules = ChatRules {
        max_tokens: 80,
        too_long: TooLong::DropTurns,
        ..RULES
    };
    let encoder = encoder(goldens.template("zephyr"), "byte", rules);
    let before = [user("old"), assistant("older"), user("new")];
    let side = |answer: &str| conversation([&before[..], &[assistant(answer)]].concat());
    let long = "long ".repeat(6);
    for (chosen, rejected) in [("a", long.as_str()), (long.as_str(), "a")] {
        let pair = encoder
            .pair(&ConversationPair {
                chosen: side(chosen),
                rejected: side(rejected),
            })
            .unwrap();
        assert_eq!(pair.chosen.prompt, pair.rejected.prompt);
        assert_eq!(
            spelled("byte", &pair.chosen.prompt),
            "<s><|user|>\nnew</s>\n<|assistant|>\n"
        );
    }
}

#[test]
fn what_cannot_be_encoded_is_refused_with_place_and_remedy() {
    let goldens = goldens();
    let fails = |template: &str, rules, messages: &[Message]| {
        let encoder = encoder(goldens.template(template), "byte", rules);
        encoder
            .conversation(&conversation(messages))
            .unwrap_err()
            .to_string()
    };
    let pair = [user("q"), assistant("a")];
    let system = [&[Message::new(Role::System, "")], &pair[..]].concat();
    let short = ChatRules {
        max_tokens: 20,
        too_long: TooLong::DropTurns,
        ..RULES
    };
    for (told, what) in [
        (
            fails("instruct", RULES, &system),
            "the chat template refuses the conversation: Leave the system message out.",
        ),
        (
            fails("zephyr", RULES, &[user("q")]),
            "no message is the assistant's",
        ),
        (
            fails("zephyr", short, &pair),
            "the last exchange alone has 30 tokens where 20 are allowed",
        ),
        (
            fails("zephyr", RULES, &[user("\u{fdd0}"), assistant("a")]),
            "message 1 holds a noncharacter",
        ),
    ] {
        assert!(
            told.starts_with("rows, line 3: ") && told.contains(what),
            "{what}: {told}"
        );
    }
    let tokenizer = tokenizer("byte");
    let ends = Ends::from(tokenizer.token_to_id("</s>").unwrap());
    let stranger =
        ChatEncoder::new(goldens.template("chatml_marked"), tokenizer, ends, RULES).unwrap();
    let error = stranger
        .sequence(&conversation(pair))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(
            "ends the assistant's turn with `<|im_end|>`, at which sampling would not stop"
        ),
        "{error}"
    );
}

/// A strategy for texts made of words and names of control tokens.
fn texts() -> impl Strategy<Value = String> {
    const WORDS: [&str; 12] = [
        "a",
        "b ",
        " ",
        "\n",
        "é",
        "漢",
        "<",
        "s>",
        "<s>",
        "</s>",
        "<|im_end|>",
        "{{ x }}",
    ];
    prop::collection::vec(prop::sample::select(&WORDS), 0..8).prop_map(|words| words.concat())
}

/// A strategy for conversations of one to five exchanges, some with a system message.
fn conversations() -> impl Strategy<Value = Vec<Message>> {
    let exchanges = prop::collection::vec((texts(), texts()), 1..6);
    (prop::option::of(texts()), exchanges).prop_map(|(system, exchanges)| {
        let system = system
            .map(|text| Message::new(Role::System, text))
            .into_iter();
        system
            .chain(
                exchanges
                    .into_iter()
                    .flat_map(|(question, answer)| [user(&question), assistant(&answer)]),
            )
            .collect()
    })
}

fn zephyr(messages: &[Message]) -> String {
    let turn = |message: &Message| format!("<|{}|>\n{}</s>\n", message.role, message.content);
    format!("<s>{}", messages.iter().map(turn).collect::<String>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_mask_covers_answers_with_their_ends_and_nothing_else(messages in conversations()) {
        let (goldens, row) = (goldens(), conversation(messages.clone()));
        for kind in ["byte", "llama"] {
            let encoder = encoder(goldens.template("zephyr"), kind, RULES);
            let (found, sequence) = (encoder.conversation(&row).unwrap(), encoder.sequence(&row).unwrap());
            let marked = self::encoder(goldens.template("zephyr_marked"), kind, RULES).conversation(&row).unwrap();
            prop_assert_eq!(&found, &marked);
            prop_assert!(found.ids.starts_with(&[sequence.prompt.clone(), sequence.response.clone()].concat()));
            prop_assert_eq!(&sequence.prompt, &encoder.prompt(&row).unwrap());
            if kind == "byte" {
                let trained = found.ids.iter().zip(&found.supervised).filter(|(_, on)| **on).map(|(id, _)| *id);
                let answers = messages.iter().filter(|message| message.is_assistant());
                let expected: Vec<u8> = answers.flat_map(|m| [m.content.as_bytes(), b"</s>"].concat()).collect();
                prop_assert_eq!(bytes(trained), expected);
            }
        }
    }

    #[test]
    fn turns_are_left_out_whole_from_the_oldest_and_no_more_than_must_be(messages in conversations(), limit in 30_usize..200) {
        let (goldens, row) = (goldens(), conversation(messages.clone()));
        let rules = ChatRules { max_tokens: limit, too_long: TooLong::DropTurnsThenCut, ..RULES };
        let ids = encoder(goldens.template("zephyr"), "byte", rules).conversation(&row).unwrap().ids;
        let system = usize::from(messages[0].role == Role::System);
        let fewer = (system..messages.len()).step_by(2).map(|from| [&messages[..system], &messages[from..]].concat());
        // Each byte is one token, and the end of a turn is one token instead of four.
        let length = |kept: &[Message]| zephyr(kept).len() - "<s".len() - 3 * kept.len();
        let strict = ChatRules { too_long: TooLong::DropTurns, ..rules };
        let strict = encoder(goldens.template("zephyr"), "byte", strict).conversation(&row);
        match fewer.clone().find(|kept| length(kept) <= limit) {
            Some(kept) => {
                prop_assert_eq!(bytes(ids.iter().copied()), zephyr(&kept).into_bytes());
                prop_assert_eq!(strict.unwrap().ids, ids);
            }
            None => {
                let last = conversation(fewer.clone().next_back().unwrap());
                let whole = encoder(goldens.template("zephyr"), "byte", RULES).conversation(&last).unwrap().ids;
                prop_assert!(ids.len() == limit && whole.ends_with(&ids[1..]) && strict.is_err());
            }
        }
    }

    #[test]
    fn cut_tokens_are_the_oldest_and_the_mask_goes_with_them(messages in conversations(), limit in 2_usize..80) {
        let (goldens, row) = (goldens(), conversation(messages));
        let rules = |max_tokens| ChatRules { max_tokens, too_long: TooLong::CutTokens, ..RULES };
        let whole = encoder(goldens.template("zephyr"), "llama", rules(4096)).conversation(&row).unwrap();
        let cut = encoder(goldens.template("zephyr"), "llama", rules(limit)).conversation(&row).unwrap();
        prop_assert_eq!((cut.ids[0], cut.ids.len()), (whole.ids[0], whole.ids.len().min(limit)));
        prop_assert_eq!(cut.ids.len(), cut.supervised.len());
        prop_assert!(whole.ids.ends_with(&cut.ids[1..]) && whole.supervised.ends_with(&cut.supervised[1..]));
    }
}

/// The bytes that tokens of the tokenizer `byte` stand for.
fn bytes(ids: impl Iterator<Item = u32>) -> Vec<u8> {
    let tokenizer = tokenizer("byte");
    let mut bytes = Vec::new();
    for run in ids
        .collect::<Vec<_>>()
        .chunk_by(|a, b| (*a < 256) == (*b < 256))
    {
        let text = if run[0] < 256 {
            tokenizer.decode(run).unwrap()
        } else {
            spelled("byte", run)
        };
        bytes.extend(text.into_bytes());
    }
    bytes
}
