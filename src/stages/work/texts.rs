//! Estimates for texts of known lengths, from those for texts at a study's limits.

use super::{Pass, Phase, Work};
use crate::experiment::GenerationSettings;
use crate::model::Sequence;

/// Lengths of a study's texts as shares of its limits, from a sample of demonstrations. In the mean,
/// responses that a policy samples are assumed to be as long; the longest of them reach the limit,
/// as some of an unfinished policy do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextLengths {
    /// Tokens of a prompt with its response, in the mean.
    pub mean: f64,
    /// Tokens of the longest prompt with a response at its limit.
    pub longest: f64,
    /// Tokens of the longest prompt, as a share of the limit of prompts.
    pub longest_prompt: f64,
}

impl TextLengths {
    /// The lengths of `texts` under the limits of `generation`; `None` without texts.
    pub fn of(texts: &[Sequence], generation: &GenerationSettings) -> Option<Self> {
        let [prompt, response] = [generation.max_prompt_tokens, generation.max_response_tokens]
            .map(|tokens| tokens as f64);
        let longest_prompt = texts.iter().map(|text| text.prompt.len()).max()? as f64;
        let all: usize = texts.iter().map(Sequence::len).sum();
        Some(Self {
            mean: all as f64 / (texts.len() as f64 * (prompt + response)),
            longest: (longest_prompt + response) / (prompt + response),
            longest_prompt: longest_prompt / prompt,
        })
    }
}

impl Work {
    /// The work with texts of these lengths: tokens and operations of mean ones, passes of the
    /// longest ones.
    pub fn with_texts(&self, lengths: &TextLengths) -> Self {
        Self {
            tokens: self.tokens * lengths.mean,
            flops: self.flops * lengths.mean,
            phases: self
                .phases
                .iter()
                .map(|phase| phase.with_texts(lengths))
                .collect(),
            ..self.clone()
        }
    }
}

impl Phase {
    fn with_texts(&self, lengths: &TextLengths) -> Self {
        let mut phase = self.clone();
        match &mut phase.pass {
            Pass::Train { loads, .. } => loads
                .iter_mut()
                .for_each(|load| *load = load.shortened(lengths.longest)),
            Pass::Read { load, .. } => *load = load.shortened(lengths.longest),
            Pass::Generate { prompt, .. } => *prompt *= lengths.longest_prompt,
        }
        phase
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::hardware::BackendProfile;
    use crate::experiment::{Experiment, Selection};
    use crate::methods::training::Training;
    use crate::stages::work::{Precision, Shapes, sampling};

    #[test]
    fn shorter_texts_take_fewer_tokens_and_less_memory() {
        let study = Experiment::load("tldr")
            .and_then(|experiment| experiment.resolve(&Selection::default()))
            .unwrap();
        let generation = &study.shared.generation;
        let (prompt, response) = (generation.max_prompt_tokens, generation.max_response_tokens);
        let text = |prompt, response| Sequence::new(vec![1; prompt], vec![1; response]);
        assert_eq!(TextLengths::of(&[], generation), None);
        let whole = TextLengths::of(&[text(prompt, response)], generation).unwrap();
        assert_eq!([whole.mean, whole.longest, whole.longest_prompt], [1.0; 3]);
        let texts = [text(prompt / 2, response / 3), text(prompt / 4, response)];
        let lengths = TextLengths::of(&texts, generation).unwrap();

        let config = &study.sizes[0].1.config(256);
        let shapes = Shapes { config, generation };
        let limit = sampling(shapes, 64, Precision::from(&Training::default()));
        let [same, less] = [whole, lengths].map(|lengths| limit.with_texts(&lengths));
        let peak = |work: &Work| work.memory(64, BackendProfile::FLEX).total();
        assert_eq!((same.tokens, peak(&same)), (limit.tokens, peak(&limit)));
        let tokens: usize = texts.iter().map(Sequence::len).sum();
        assert!((less.tokens - 64.0 * tokens as f64 / 2.0).abs() < 1e-6);
        assert!(less.flops < limit.flops && peak(&less) < peak(&limit));
    }
}
