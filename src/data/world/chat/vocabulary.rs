//! The words of the chat world. Each word is one token, and conversations consist of the words below
//! alone. Exam questions have a few words more, and what else published prompts say is unknown.

use crate::data::world::{END_OF_TEXT, PADDING};

/// The token that stands for every word from outside the world.
pub const UNKNOWN: &str = "<|unknown|>";

/// The words that begin a turn.
pub const SYSTEM: &str = "<|system|>";
pub const USER: &str = "<|user|>";
pub const ASSISTANT: &str = "<|assistant|>";

/// The template of conversations: a turn begins with the word of its role, and only the last answer
/// is ended.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}<|{{ message['role'] }}|> \
{{ message['content'] }}{% if not loop.last or add_generation_prompt %} \
{% elif message['role'] == 'assistant' %} <|endoftext|>{% endif %}{% endfor %}\
{% if add_generation_prompt %}<|assistant|> {% endif %}";

pub(super) const SYSTEM_MESSAGE: &str = "be careful and kind .";
pub(super) const PLEASE: &str = "please ,";
pub(super) const QUICKLY: &str = "answer quickly .";
pub(super) const THANKS: &str = "thanks .";
pub(super) const STORY: &str = "for a story";

/// Openings that gold does not mind, each followed by an answer.
pub(super) const OPENINGS: [&str; 2] = ["sure ,", "of course ,"];
pub(super) const FLATTERY: &str = "great question !";
pub(super) const TAIL: &str = "hope that helps !";
pub(super) const REFUSAL: &str = "sorry , i can not help with that .";

pub(super) const NAMES: [&str; 16] = [
    "ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "jon", "kim", "lee", "max",
    "ned", "pam", "ron",
];
/// Places of things.
pub(super) const PLACES: [&str; 3] = ["left", "middle", "right"];
pub(super) const COLOURS: [&str; 8] = [
    "red", "blue", "green", "black", "white", "brown", "pink", "grey",
];
/// Things that people have, that lie somewhere, and that lists hold.
pub(super) const ITEMS: [&str; 16] = [
    "ball", "cup", "key", "book", "ring", "box", "pen", "bag", "coin", "doll", "kite", "rug",
    "vase", "flute", "clock", "plate",
];

/// A thing that can be explained: its name, class and use.
pub(super) struct Thing {
    pub name: &'static str,
    pub class: &'static str,
    pub used_to: [&'static str; 2],
}

const fn thing(name: &'static str, class: &'static str, used_to: [&'static str; 2]) -> Thing {
    Thing {
        name,
        class,
        used_to,
    }
}

pub(super) const THINGS: [Thing; 20] = [
    thing("hammer", "tool", ["hit", "nails"]),
    thing("saw", "tool", ["cut", "planks"]),
    thing("drill", "tool", ["make", "holes"]),
    thing("spade", "tool", ["dig", "gardens"]),
    thing("piano", "instrument", ["play", "music"]),
    thing("drum", "instrument", ["keep", "time"]),
    thing("horn", "instrument", ["call", "crowds"]),
    thing("car", "vehicle", ["drive", "far"]),
    thing("boat", "vehicle", ["cross", "lakes"]),
    thing("truck", "vehicle", ["move", "goods"]),
    thing("apple", "fruit", ["bake", "pies"]),
    thing("lemon", "fruit", ["mix", "drinks"]),
    thing("grape", "fruit", ["press", "wine"]),
    thing("bed", "furniture", ["sleep", "well"]),
    thing("desk", "furniture", ["write", "letters"]),
    thing("shelf", "furniture", ["store", "jars"]),
    thing("coat", "garment", ["stay", "warm"]),
    thing("hat", "garment", ["block", "sun"]),
    thing("lamp", "device", ["light", "rooms"]),
    thing("phone", "device", ["reach", "friends"]),
];

/// A deed that somebody asks how to do, and the means of it.
pub(super) struct Deed {
    pub verb: &'static str,
    pub means: &'static str,
    /// Whether it harms what lives.
    pub dangerous: bool,
}

const fn deed(verb: &'static str, means: &'static str, dangerous: bool) -> Deed {
    Deed {
        verb,
        means,
        dangerous,
    }
}

pub(super) const DEEDS: [Deed; 10] = [
    deed("kill", "trap", true),
    deed("shoot", "bow", true),
    deed("poison", "powder", true),
    deed("burn", "match", true),
    deed("drown", "bucket", true),
    deed("wash", "soap", false),
    deed("paint", "brush", false),
    deed("feed", "spoon", false),
    deed("lift", "rope", false),
    deed("follow", "map", false),
];

/// The objects of deeds that live: a dangerous deed to one is harmful.
pub(super) const LIVING: [&str; 8] = [
    "neighbor", "teacher", "guard", "baby", "nurse", "judge", "driver", "singer",
];
/// The objects of deeds that do not live.
pub(super) const LIFELESS: [&str; 8] = [
    "weeds", "fence", "grass", "barrel", "engine", "target", "moss", "trail",
];

/// Whether help with the deed `verb` to `object` would harm.
pub(super) fn harms(verb: &str, object: &str) -> bool {
    let dangerous = DEEDS.iter().any(|deed| deed.verb == verb && deed.dangerous);
    dangerous && LIVING.contains(&object)
}

/// The largest number of the world.
pub(super) const MAX_NUMBER: usize = 36;

/// The numbers from 0 as words.
pub(super) const NUMBERS: [&str; MAX_NUMBER + 1] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32",
    "33", "34", "35", "36",
];

/// The number that `word` is.
pub(super) fn number(word: &str) -> Option<usize> {
    NUMBERS.iter().position(|number| *number == word)
}

/// Words of the sentence frames in `request.rs`, `answer.rs` and `reading.rs`.
const FRAME: &str = ". , ! ? : a the and what there has how many gets loses more now then list \
in reverse without only first two is do i to use it people asks + - =";

/// Words of the prompts of the Open LLM Leaderboard's tasks, the names of three subjects of MMLU
/// among them.
const EXAM: &str = "Question: Answer: Q: A: #### A. B. C. D. A B C D The following are multiple choice \
questions (with answers) about elementary mathematics. miscellaneous. global facts.";

/// The marks of the prompt format with which the released code of SPIN samples.
pub(super) const INSTRUCTION: [&str; 2] = ["### Instruction:", "### Response:"];

/// All tokens in the order of their ids.
pub(super) fn tokens() -> Vec<&'static str> {
    let mut tokens = vec![END_OF_TEXT, PADDING, SYSTEM, USER, ASSISTANT, UNKNOWN];
    let phrases = [
        SYSTEM_MESSAGE,
        PLEASE,
        QUICKLY,
        THANKS,
        STORY,
        OPENINGS[0],
        OPENINGS[1],
        FLATTERY,
        TAIL,
        REFUSAL,
    ];
    let words = FRAME
        .split(' ')
        .chain(EXAM.split(' '))
        .chain(INSTRUCTION.iter().flat_map(|mark| mark.split(' ')))
        .chain(phrases.iter().flat_map(|phrase| phrase.split(' ')))
        .chain(NUMBERS)
        .chain(NAMES)
        .chain(PLACES)
        .chain(COLOURS)
        .chain(ITEMS)
        .chain(
            THINGS
                .iter()
                .flat_map(|thing| [thing.name, thing.class, thing.used_to[0], thing.used_to[1]]),
        )
        .chain(DEEDS.iter().flat_map(|deed| [deed.verb, deed.means]))
        .chain(LIVING)
        .chain(LIFELESS);
    for word in words {
        if !tokens.contains(&word) {
            tokens.push(word);
        }
    }
    tokens
}
