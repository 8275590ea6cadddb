//! Stage `corpus`: real posts of a local file in the paper's prompt format, fitted to the prompt
//! limit. A fixed part is held out from all training; posts with the same prompt are on the same
//! side.

use super::common::tokenizer_folder;
use super::held_out::write_duplicates;
use super::{NoInputs, Stage};
use crate::data::contents::changed;
use crate::data::corpus::Corpus;
use crate::data::dataset::SummarisedPost;
use crate::data::rows::{self, Demonstration};
use crate::data::split::{self, Duplicates};
use crate::data::{TextEncoder, tldr};
use crate::experiment::GenerationSettings;
use crate::pipeline::StageContext;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalPosts {
    pub file: PathBuf,
    pub blake3: String,
    pub tokenizer: PathBuf,
    pub tokenizer_blake3: String,
    pub generation: GenerationSettings,
    /// Share of the posts that is held out.
    pub held_out: f64,
}

impl Stage for LocalPosts {
    const KIND: &'static str = "corpus";
    const VERSION: u32 = 2;
    type Inputs = NoInputs;
    type Sizes<'a> = ();

    fn run(self, _: NoInputs, context: &StageContext) -> Result<()> {
        let folder = tokenizer_folder(context, &self.tokenizer, &self.tokenizer_blake3)?;
        let generation = &self.generation;
        let encoder = TextEncoder::open(
            &folder,
            generation.max_prompt_tokens,
            generation.max_response_tokens,
        )?;
        let Corpus {
            posts,
            places,
            source,
        } = Corpus::open(&self.file)?;
        if source.blake3 != self.blake3 {
            return Err(changed(
                &self.file.display().to_string(),
                &self.blake3,
                &source.blake3,
            ));
        }
        context.add_source(&source)?;
        let rows = posts.iter().zip(&places).map(|(row, place)| {
            let prompt = tldr::fitted_at(place, &row.post, &encoder)?;
            Ok(Demonstration {
                id: row.id.clone(),
                prompt,
                response: tldr::response(&row.summary),
            })
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let whole: Vec<String> = posts.iter().map(|row| tldr::prompt(&row.post)).collect();
        let forms: Vec<[&str; 2]> = whole
            .iter()
            .zip(&rows)
            .map(|(whole, row)| [&whole[..], &row.prompt])
            .collect();
        let groups = split::groups(&forms);
        let Some((held_out, trained)) = split::hold_out(&groups, self.held_out) else {
            return Err(too_few(&self.file, &forms));
        };
        for (name, part) in [
            ("held_out.jsonl", held_out),
            ("demonstrations.jsonl", trained),
        ] {
            rows::write(
                &context.out().join(name),
                part.iter().map(|row| &rows[*row]),
            )?;
        }
        write_duplicates(context, &groups, &rows, 0)
    }
}

fn too_few(file: &Path, forms: &[[&str; 2]]) -> Error {
    let prompts = Duplicates::count(&split::groups(forms), []).prompts;
    let plural =
        |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    Error::data(format!(
        "{} has {} of {}, too few to hold some out",
        file.display(),
        plural(forms.len(), "row"),
        plural(prompts, "different prompt")
    ))
    .hint("a fifth of the rows is held out, and rows of one prompt stay together: give more posts")
}

/// Checks that some rows of `posts` can be held out, as far as this is known without tokenizing
/// them.
///
/// # Errors
/// Too few rows, or too few distinct ones.
pub fn check_splits(file: &Path, posts: &[SummarisedPost], share: f64) -> Result<()> {
    let whole: Vec<String> = posts.iter().map(|row| tldr::prompt(&row.post)).collect();
    let forms: Vec<[&str; 2]> = whole.iter().map(|whole| [&whole[..]; 2]).collect();
    split::hold_out(&split::groups(&forms), share)
        .map(|_| ())
        .ok_or_else(|| too_few(file, &forms))
}
