//! Two-turn questions in the form of MT-Bench (arXiv 2306.05685): the second turn relies on the
//! first, and a model sees its own first answer when it answers the second.

use super::request::{Request, Subject};
use super::{ChatWorld, gold};
use crate::data::world::{Questions, Split};
use crate::rng::stream;

/// The seed of all questions; no study draws prompts with it.
const SEED: u64 = u64::MAX;

impl ChatWorld {
    /// Question number `index`: its first subject, and the request of its second turn.
    fn two_turns(&self, index: u64) -> (Subject, Request) {
        let mut rng = stream(SEED, "chat/question", &[index]);
        loop {
            let request = Request::draw(&self.settings.requests, Split::Test, &mut rng);
            if let Some(first) = request.before.clone() {
                return (first, request);
            }
        }
    }
}

impl Questions for ChatWorld {
    /// The category of MT-Bench whose temperature a skill has: what has one right answer is
    /// answered greedily.
    fn category(&self, index: u64) -> &'static str {
        match self.two_turns(index).0 {
            Subject::Recall { .. } => "extraction",
            Subject::List { .. } => "writing",
            Subject::Sum { .. } => "math",
            Subject::Explain(_) => "stem",
            Subject::How { .. } => "humanities",
        }
    }

    fn turns(&self, index: u64) -> [String; 2] {
        let (first, request) = self.two_turns(index);
        [first.opening(), request.turn()]
    }

    fn gold_of_turn(&self, index: u64, turn: usize, answer: &str, ended: bool) -> f64 {
        let (first, request) = self.two_turns(index);
        let subject = if turn == 0 { &first } else { &request.subject };
        gold::parts(subject, answer, ended).gold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::world::World;
    use crate::data::world::chat::{ChatWorldSettings, answer};

    #[test]
    fn perfect_answers_to_both_turns_have_gold_one() {
        let world = ChatWorld::new(&ChatWorldSettings::default()).unwrap();
        for index in 0..80 {
            let (first, request) = world.two_turns(index);
            let answers = [
                answer::canonical(&first),
                answer::canonical(&request.subject),
            ];
            let [one, two] = world.turns(index);
            for (turn, answer) in answers.iter().enumerate() {
                assert_eq!(world.gold_of_turn(index, turn, answer, true), 1.0);
            }
            let prompt = world.conversation(&[one, answers[0].clone(), two]);
            assert_eq!(prompt, request.prompt());
        }
    }
}
