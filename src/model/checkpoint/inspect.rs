//! Description of a model folder: its configuration, the headers of its files, and weights that are
//! not finite.

use super::{CONFIG, Checkpoint, Normalisation, config};
use crate::model::arch::{DecoderConfig, Sizes};
use crate::model::layout::{self, Beside, Head};
use crate::model::tokenizer::{Ends, ModelTokenizer, TOKENIZER};
use crate::model::weights::{StoredAs, Weights};
use crate::{Context, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The description of a model folder.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The classes named in config.json.
    pub architectures: Vec<String>,
    /// The head found among the tensors.
    pub head: Head,
    pub parameters: Parameters,
    /// The keys that decide the computation.
    pub config: DecoderConfig,
    /// Dimensions of each head, and the number of them that are rotated.
    pub head_size: usize,
    pub rotary_dims: usize,
    /// One more than the tokenizer's largest id; `None` without a tokenizer.
    pub tokens: Option<usize>,
    /// Rows of the embedding that no token uses.
    pub padding_rows: Option<usize>,
    /// Ids of the tokens that end a text, starting with the one that is appended.
    pub ends: Vec<u32>,
    pub files: Vec<StoredFile>,
    /// Tensors beside the weights that are ignored.
    pub unused_buffers: Vec<String>,
    /// The conversion of scores to rewards, unless scores stay unchanged.
    pub normalisation: Option<Normalisation>,
    /// Problems that prevent the model from being loaded.
    pub problems: Vec<String>,
}

/// Numbers of parameters according to config.json.
#[derive(Clone, Debug, Serialize)]
pub struct Parameters {
    /// The decoder with its embedding.
    pub backbone: usize,
    /// The embedding alone.
    pub embedding: usize,
    /// The head; 0 if it is tied to the embedding.
    pub head: usize,
}

/// One file of weights.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StoredFile {
    pub name: String,
    pub bytes: u64,
    pub tensors: usize,
    /// Number types of its weights.
    pub dtypes: BTreeSet<StoredAs>,
}

impl Checkpoint {
    /// Describes the folder.
    ///
    /// # Errors
    /// A configuration that is not supported, and damaged files. Tensors that are missing,
    /// superfluous, of another shape or not finite are listed in [`Inspection::problems`], as is a
    /// tokenizer that does not fit.
    pub fn inspect(&self) -> Result<Inspection> {
        let path = self.folder.join(CONFIG);
        let described = config::read(&path)?;
        let architectures = described.architectures();
        let config = config::parse(described.keys, &path)?;
        let mut weights = Weights::open(&self.folder)?;
        let mut files: BTreeMap<&Path, StoredFile> = BTreeMap::new();
        for tensor in weights.list() {
            let Some(file) = tensor.file else { continue };
            files.entry(file).or_default().tensors += 1;
        }
        let mut files: BTreeMap<_, _> = files
            .into_iter()
            .map(|(path, file)| (path.to_owned(), file))
            .collect();
        for (path, file) in &mut files {
            file.name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            file.bytes = std::fs::metadata(path)
                .context(|| format!("cannot read {}", path.display()))?
                .len();
        }
        let (beside, mut problems) = match layout::normalise(&mut weights, &config) {
            Ok(beside) => (beside, Vec::new()),
            Err(error) => (Beside::default(), vec![error.to_string()]),
        };
        for tensor in weights.list() {
            if let Some((file, dtype)) = tensor
                .file
                .and_then(|path| files.get_mut(path))
                .zip(tensor.stored_as)
            {
                file.dtypes.insert(dtype);
            }
        }
        let head = Head::of(&weights, &config);
        problems.extend(
            weights
                .check_all(&layout::tensors(&config, head))
                .iter()
                .map(ToString::to_string),
        );
        problems.extend(weights.not_finite()?.iter().map(ToString::to_string));
        let tokenizer = match self
            .folder
            .join(TOKENIZER)
            .is_file()
            .then(|| ModelTokenizer::open(&self.folder))
        {
            Some(Err(error)) => {
                problems.push(error.to_string());
                None
            }
            Some(Ok(tokenizer)) => Some(tokenizer),
            None => None,
        };
        if let Some(tokenizer) = &tokenizer {
            problems.extend(
                tokenizer
                    .check_fits(config.vocab_size())
                    .err()
                    .map(|error| error.to_string()),
            );
        }
        let tokens = tokenizer.as_ref().map(ModelTokenizer::vocabulary_size);
        let named = Ends::of_folder(&self.folder, tokenizer.as_ref(), config.vocab_size());
        // A reward model does not need ends if rows are token ids, and a folder without a tokenizer
        // has no texts.
        let ends = match named {
            Ok(ends) => ends.ids().to_vec(),
            Err(error) => {
                problems.extend(tokenizer.is_some().then(|| error.to_string()));
                Vec::new()
            }
        };
        let Sizes {
            vocab_size,
            hidden_size,
            head_size,
            ..
        } = config.sizes();
        Ok(Inspection {
            architectures,
            head,
            parameters: Parameters {
                backbone: config.backbone_parameters(),
                embedding: vocab_size * hidden_size,
                head: head.parameters(&config),
            },
            head_size,
            rotary_dims: 2 * config.rope().frequencies.len(),
            padding_rows: tokens.map(|tokens| vocab_size.saturating_sub(tokens)),
            tokens,
            ends,
            files: files.into_values().collect(),
            normalisation: Some(self.normalisation(&beside)?)
                .filter(|found| *found != Normalisation::none(0.0)),
            unused_buffers: beside.unused,
            problems,
            config,
        })
    }
}
