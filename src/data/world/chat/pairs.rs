//! Pairs in the 23 subsets of RewardBench: for each a request, a right answer, and one that is worse
//! in the way that its section is about.

use super::answer::{answer, canonical};
use super::gold;
use super::request::{Change, Request, Rule, Subject};
use super::settings::{ChatAuthorSettings, ChatWorldSettings};
use super::vocabulary::MAX_NUMBER;
use crate::data::world::{BenchmarkPair, Flaw, Split};
use crate::rng::stream;
use rand::Rng;

/// The seed of all pairs; no study draws prompts with it.
const SEED: u64 = u64::MAX;
/// Draws of a worse answer to one request before another request is drawn.
const DRAWS: usize = 50;

/// A subset of RewardBench in this world.
struct Subset {
    name: &'static str,
    /// Pairs in the published data.
    published: usize,
    asks: fn(&Request) -> bool,
    rejected: Rejected,
}

/// The kind of worse answer.
#[derive(Clone, Copy)]
enum Rejected {
    /// By an author of a lower quality.
    Author(f64),
    /// The same, and longer than the right one.
    Longer(f64),
    /// The perfect answer to nearly the same request, about as long as the right one.
    Neighbour,
    /// The perfect answer to another request of the same skill.
    Other,
    /// By an author who has one flaw and commits it.
    Flawed(fn(&mut ChatAuthorSettings)),
}

impl Subset {
    /// The number of pairs with this share of the published size, at least one.
    fn size(&self, share: f64) -> usize {
        ((self.published as f64 * share).round() as usize).max(1)
    }
}

const fn subset(
    name: &'static str,
    published: usize,
    asks: fn(&Request) -> bool,
    rejected: Rejected,
) -> Subset {
    Subset {
        name,
        published,
        asks,
        rejected,
    }
}

const ALWAYS: Flaw = Flaw {
    plain: 1.0,
    provoked: 1.0,
};

const SUBSETS: [Subset; 23] = [
    subset(
        "alpacaeval-easy",
        100,
        harmless_first,
        Rejected::Author(0.1),
    ),
    subset(
        "alpacaeval-length",
        95,
        harmless_first,
        Rejected::Longer(0.3),
    ),
    subset("alpacaeval-hard", 95, harmless_first, Rejected::Author(0.6)),
    subset("mt-bench-easy", 28, harmless_second, Rejected::Author(0.1)),
    subset("mt-bench-med", 40, harmless_second, Rejected::Author(0.5)),
    subset("mt-bench-hard", 37, harmless_second, Rejected::Author(0.8)),
    subset("llmbar-natural", 100, harmless_first, Rejected::Author(0.8)),
    subset(
        "llmbar-adver-neighbor",
        134,
        harmless_first,
        Rejected::Neighbour,
    ),
    subset("llmbar-adver-GPTInst", 92, harmless_first, Rejected::Other),
    subset(
        "llmbar-adver-GPTOut",
        47,
        harmless_first,
        Rejected::Flawed(|author| {
            author.wrong_value = 1.0;
        }),
    ),
    subset(
        "llmbar-adver-manual",
        46,
        harmless_second,
        Rejected::Neighbour,
    ),
    subset(
        "refusals-dangerous",
        100,
        harmful_plain,
        Rejected::Flawed(helps),
    ),
    subset(
        "refusals-offensive",
        100,
        harmful_polite,
        Rejected::Flawed(helps),
    ),
    subset(
        "xstest-should-refuse",
        154,
        harmful,
        Rejected::Flawed(helps),
    ),
    subset(
        "xstest-should-respond",
        250,
        sounds_harmful,
        Rejected::Flawed(|author| {
            author.over_refusal = ALWAYS;
        }),
    ),
    subset("donotanswer", 136, harmful_story, Rejected::Flawed(helps)),
    subset(
        "math-prm",
        447,
        two_steps,
        Rejected::Flawed(|author| {
            author.miscount = ALWAYS;
        }),
    ),
    subset(
        "hep-cpp",
        164,
        |it| lists(it, Rule::Reverse, 3),
        Rejected::Flawed(disorders),
    ),
    subset(
        "hep-go",
        164,
        |it| lists(it, Rule::Reverse, 4),
        Rejected::Flawed(disorders),
    ),
    subset(
        "hep-java",
        164,
        |it| lists(it, Rule::FirstTwo, 3),
        Rejected::Flawed(disorders),
    ),
    subset(
        "hep-js",
        164,
        |it| lists(it, Rule::FirstTwo, 4),
        Rejected::Flawed(disorders),
    ),
    subset(
        "hep-python",
        164,
        |it| lists(it, Rule::Without(0), 3),
        Rejected::Flawed(disorders),
    ),
    subset(
        "hep-rust",
        164,
        |it| lists(it, Rule::Without(0), 4),
        Rejected::Flawed(disorders),
    ),
];

fn helps(author: &mut ChatAuthorSettings) {
    author.compliance = ALWAYS;
}

fn disorders(author: &mut ChatAuthorSettings) {
    author.disorder = ALWAYS;
}

fn harmful(request: &Request) -> bool {
    request.subject.is_harmful()
}

fn harmless_first(request: &Request) -> bool {
    !harmful(request) && request.before.is_none()
}

fn harmless_second(request: &Request) -> bool {
    !harmful(request) && request.before.is_some()
}

fn tells_story(request: &Request) -> bool {
    matches!(request.subject, Subject::How { story: true, .. })
}

fn harmful_plain(request: &Request) -> bool {
    harmful(request) && !tells_story(request) && !request.manner.please
}

fn harmful_polite(request: &Request) -> bool {
    harmful(request) && !tells_story(request) && request.manner.please
}

fn harmful_story(request: &Request) -> bool {
    harmful(request) && tells_story(request)
}

/// A dangerous deed to what does not live.
fn sounds_harmful(request: &Request) -> bool {
    !harmful(request)
        && matches!(request.subject, Subject::How { deed, .. } if Subject::deed(deed).dangerous)
}

fn two_steps(request: &Request) -> bool {
    matches!(&request.subject, Subject::Sum { changes, .. } if changes.len() == 2)
}

/// Whether a list of `count` items is asked for under a rule of this kind.
fn lists(request: &Request, wanted: Rule, count: usize) -> bool {
    let Subject::List { items, rule } = &request.subject else {
        return false;
    };
    std::mem::discriminant(rule) == std::mem::discriminant(&wanted) && items.len() == count
}

/// The pairs of all subsets, each with this share of its published size and at least one pair.
pub(super) fn pairs(settings: &ChatWorldSettings, share: f64) -> Vec<BenchmarkPair> {
    SUBSETS
        .iter()
        .flat_map(|subset| {
            (0..subset.size(share) as u64).map(|index| pair(settings, subset, index))
        })
        .collect()
}

/// The number of these pairs.
pub(super) fn size(share: f64) -> usize {
    SUBSETS.iter().map(|subset| subset.size(share)).sum()
}

fn pair(settings: &ChatWorldSettings, subset: &Subset, index: u64) -> BenchmarkPair {
    let mut rng = stream(SEED, &format!("chat/pair/{}", subset.name), &[index]);
    loop {
        let mut request = Request::draw(&settings.requests, Split::Test, &mut rng);
        if !(subset.asks)(&request) {
            continue;
        }
        // The benchmark's rows have no system message.
        request.system = false;
        let chosen = answer(&settings.authors, &request, 1.0, &mut rng);
        for _ in 0..DRAWS {
            let rejected = worse(settings, &request, subset.rejected, &mut rng);
            let long_enough = match subset.rejected {
                Rejected::Longer(_) => words(&rejected) > words(&chosen),
                Rejected::Neighbour => words(&rejected).abs_diff(words(&chosen)) <= 3,
                _ => true,
            };
            if long_enough && gold::parts(&request.subject, &rejected, true).gold < 1.0 {
                return BenchmarkPair {
                    subset: subset.name,
                    turns: request
                        .messages()
                        .into_iter()
                        .map(|(_, text)| text)
                        .collect(),
                    chosen,
                    rejected,
                };
            }
        }
    }
}

fn words(text: &str) -> usize {
    text.split(' ').count()
}

/// An answer that is likely to be worse than a right one.
fn worse(
    settings: &ChatWorldSettings,
    request: &Request,
    rejected: Rejected,
    rng: &mut impl Rng,
) -> String {
    match rejected {
        Rejected::Author(quality) | Rejected::Longer(quality) => {
            answer(&settings.authors, request, quality, rng)
        }
        Rejected::Neighbour => canonical(&neighbour(&request.subject, rng)),
        Rejected::Other => loop {
            let other = Request::draw(&settings.requests, Split::Test, rng);
            if other.subject.skill() == request.subject.skill() && harmless_first(&other) {
                return canonical(&other.subject);
            }
        },
        Rejected::Flawed(flaw) => {
            let mut author = ChatAuthorSettings::flawless(settings.authors.opening);
            flaw(&mut author);
            answer(&author, request, 0.0, rng)
        }
    }
}

/// A subject that differs from this one in one respect and is harmless.
fn neighbour(subject: &Subject, rng: &mut impl Rng) -> Subject {
    loop {
        let next = match subject {
            Subject::Sum {
                name,
                item,
                start,
                changes,
            } => {
                let mut changes = changes.clone();
                if let Some(last) = changes.last_mut() {
                    *last = Change {
                        by: rng.random_range(1..=9),
                        ..*last
                    };
                }
                let sum = Subject::Sum {
                    name,
                    item,
                    start: *start,
                    changes,
                };
                if sum.count() > MAX_NUMBER {
                    continue;
                }
                sum
            }
            other => other.next(0.0, rng),
        };
        if !next.is_harmful() {
            return next;
        }
    }
}
