//! `touchstone eval rewardbench`: a reward model or a policy on pairs of RewardBench.

use super::folder::EvaluationFolder;
use super::progress::Progress;
use super::show;
use crate::benchmarks::Evaluation;
use crate::benchmarks::rewardbench::encode::{self, Rules};
use crate::benchmarks::rewardbench::evaluate::{accuracies, evaluation, notices};
use crate::benchmarks::rewardbench::implicit::MAX_PROMPT_LENGTH;
use crate::benchmarks::rewardbench::read_out::ReadOut;
use crate::benchmarks::rewardbench::result_file::{self, About};
use crate::benchmarks::rewardbench::rows::{self, Pair, Pairs};
use crate::benchmarks::rewardbench::scores::{self, ReferenceFree, Rewards, Scorer};
use crate::benchmarks::rewardbench::sections::section_scores;
use crate::benchmarks::rewardbench::text::Template;
use crate::benchmarks::rewardbench::tokens::Tokens;
use crate::benchmarks::rewardbench::{self, identity};
use crate::cli::model::open;
use crate::data::dataset::{Dataset, Fingerprint};
use crate::data::hub::Source;
use crate::model::checkpoint::{Checkpoint, FILES_BESIDE};
use crate::{Error, Result, device};
use burn::tensor::{Device, FloatDType};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The published data set, whose commit the result names.
const PUBLISHED: &str = "hf:datasets/allenai/reward-bench@main";

#[derive(Clone, Debug, Args)]
pub struct RewardBenchArgs {
    /// Folder of a reward model or a policy with its tokenizer; or hf:owner/name@revision
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What ranks the responses
    #[arg(long, value_enum)]
    kind: Kind,
    /// Reference policy of an implicit reward, which reads the tokens of the policy's tokenizer
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Rows with `prompt`, `chosen`, `rejected`, `subset` and `id`: a file, a folder of splits, `hub`
    /// for the published data set, or hf:datasets/owner/name@revision
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// Split of a folder or a repository
    #[arg(long, value_name = "NAME", default_value = "filtered")]
    split: String,
    /// Subset of rows that name none
    #[arg(long, value_name = "NAME")]
    subset: Option<String>,
    /// Rules for texts, ties and weights
    #[arg(long, value_enum, default_value = "allenai")]
    convention: Convention,
    /// Implicit reward without a reference, of the log-probabilities of a response's tokens: their
    /// mean, sum or negated norm
    #[arg(long, value_enum, default_value = "avg", conflicts_with = "reference")]
    ref_free: RefFree,
    /// Chat template: tokenizer, a name of FastChat (tulu, zephyr, mistral, vicuna_v1.1, llama-2),
    /// or plain; the tokenizer's own unless given
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Tokens of a text, at most; unless given 2048, and with --convention rlhflow the tokenizer's
    /// model_max_length for reward models
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Token at which a reward is read; the others are those of transformers 4 and 5
    #[arg(long, value_enum, default_value = "last-token")]
    read_out: ReadOutArg,
    /// Number type that the weights are held in
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Pairs per forward pass; changes speed and memory, not results
    #[arg(long, value_name = "N", default_value = "8")]
    batch: NonZeroUsize,
    /// Where tensors are computed: flex, libtorch, libtorch:cuda:N or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = device::DEFAULT, value_parser = crate::cli::device_spec, env = "TOUCHSTONE_DEVICE")]
    device: device::DeviceSpec,
    /// Folder to write: new, empty, or with an earlier evaluation by RewardBench
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The scalar of a sequence classifier.
    Reward,
    /// log π(y|x) − log π_ref(y|x) of a policy.
    Implicit,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Convention {
    /// AllenAI's package: a tie is wrong.
    Allenai,
    /// RLHFlow's script: a tie is half right, weights of XSTest are swapped.
    Rlhflow,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RefFree {
    Avg,
    Sum,
    Norm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReadOutArg {
    LastToken,
    FirstPad,
    LastNonPad,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
    F16,
}

impl RewardBenchArgs {
    fn convention(&self) -> rewardbench::Convention {
        match self.convention {
            Convention::Allenai => rewardbench::Convention::Allenai,
            Convention::Rlhflow => rewardbench::Convention::Rlhflow,
        }
    }

    fn read_out(&self) -> ReadOut {
        match self.read_out {
            ReadOutArg::LastToken => ReadOut::LastToken,
            ReadOutArg::FirstPad => ReadOut::FirstPad,
            ReadOutArg::LastNonPad => ReadOut::LastNonPad,
        }
    }

    fn reference_free(&self) -> ReferenceFree {
        match self.ref_free {
            RefFree::Avg => ReferenceFree::Avg,
            RefFree::Sum => ReferenceFree::Sum,
            RefFree::Norm => ReferenceFree::Norm,
        }
    }

    fn dtype(&self) -> FloatDType {
        match self.dtype {
            Dtype::F32 => FloatDType::F32,
            Dtype::Bf16 => FloatDType::BF16,
            Dtype::F16 => FloatDType::F16,
        }
    }

    /// # Errors
    /// Options that exclude each other.
    fn check(&self) -> Result<()> {
        if self.kind == Kind::Reward && self.reference.is_some() {
            return Err(Error::configuration("a reward model has no reference")
                .hint("leave --reference out, or rank by --kind implicit"));
        }
        if self.reference.as_ref() == Some(&self.model) {
            return Err(Error::configuration(
                "policy and reference are the same model, so that every pair ties",
            )
            .hint("give the model that the policy was trained from, or leave --reference out"));
        }
        match self.max_length {
            // A long prompt keeps this many tokens, and a response the rest.
            Some(length) if length <= MAX_PROMPT_LENGTH => Err(Error::configuration(format!(
                "--max-length {length} leaves no room for a response"
            ))
            .hint(format!("give more than {MAX_PROMPT_LENGTH} tokens"))),
            _ => Ok(()),
        }
    }
}

/// The model folders that an evaluation reads.
struct Models {
    model: Checkpoint,
    reference: Option<Checkpoint>,
}

impl Models {
    fn open(args: &RewardBenchArgs) -> Result<Self> {
        let reference = args.reference.as_deref();
        Ok(Self {
            model: open(&args.model, &FILES_BESIDE)?,
            reference: reference.map(|it| open(it, &FILES_BESIDE)).transpose()?,
        })
    }

    fn scorer(&self, args: &RewardBenchArgs, device: &Device) -> Result<Scorer> {
        let dtype = args.dtype();
        if args.kind == Kind::Reward {
            let (model, normalisation) = self.model.frozen_reward_model(dtype, device)?;
            return Ok(Scorer::Classifier {
                model: Box::new(model),
                normalisation,
            });
        }
        let policy = Box::new(self.model.frozen_language_model(dtype, device)?);
        Ok(match &self.reference {
            Some(reference) => Scorer::Policy {
                policy,
                reference: Box::new(reference.frozen_language_model(dtype, device)?),
            },
            None => Scorer::PolicyAlone {
                policy,
                reward: args.reference_free(),
            },
        })
    }

    /// The rules for the tokens of pairs, and the tokenizer.
    fn rules(&self, args: &RewardBenchArgs) -> Result<(Rules, Tokens)> {
        let config = self.model.config()?;
        let folder = self.model.folder();
        let tokenizer = self.model.tokenizer()?;
        let ends = self.model.ends(Some(&tokenizer))?;
        let tokens = Tokens::open(folder, tokenizer, ends, config.model_type())?;
        let (mut positions, mut vocabulary) = (config.sizes().positions, config.vocab_size());
        if let Some(reference) = &self.reference {
            let config = reference.config()?;
            positions = positions.min(config.sizes().positions);
            vocabulary = vocabulary.min(config.vocab_size());
        }
        let rules = Rules {
            kind: match args.kind {
                Kind::Reward => encode::Kind::Reward,
                Kind::Implicit => encode::Kind::Implicit,
            },
            convention: args.convention(),
            template: Template::open(args.template.as_deref(), folder)?,
            max_length: args.max_length,
            read_out: args.read_out(),
            pad: identity::padding(folder)?.or(tokens.pad).or(tokens.eos),
            positions,
            vocabulary,
        };
        Ok((rules, tokens))
    }

    fn identity(
        &self,
        args: &RewardBenchArgs,
        data: &Fingerprint,
        rules: &Rules,
        tokens: &Tokens,
    ) -> Result<Value> {
        let hashes = |checkpoint: &Checkpoint| identity::of_folder(checkpoint.folder());
        let reference = self.reference.as_ref().map(hashes).transpose()?;
        let reference_free =
            (args.kind == Kind::Implicit && reference.is_none()).then(|| args.reference_free());
        Ok(json!({
            "model": hashes(&self.model)?,
            "reference": reference,
            "data": data.files,
            "commit": data.commit,
            "subset": args.subset,
            "kind": format!("{:?}", args.kind).to_lowercase(),
            "reference_free": reference_free,
            "convention": rules.convention,
            "template": rules.template.name(),
            "end_added": tokens.adds_end(&rules.template),
            "max_length": rules.limit(tokens),
            "read_out": rules.read_out,
            "dtype": format!("{:?}", args.dtype).to_lowercase(),
        }))
    }
}

/// Scores all pairs, writes the evaluation and prints it.
///
/// # Errors
/// Options that exclude each other, a model or rows that cannot be read, a folder that cannot be
/// written.
pub fn run(args: &RewardBenchArgs) -> Result<()> {
    args.check()?;
    let mut folder = EvaluationFolder::new(&args.out, rewardbench::NAME, &result_file::FILES)?;
    let device = device::select(args.device)?;
    let data = Dataset::open(&source(&args.data)?, None, &args.split)?;
    let Pairs {
        pairs,
        notices: mut told,
    } = rows::read(&data, args.subset.as_deref()).map_err(|error| named(error, &args.data))?;
    told.extend(rows::coverage(&pairs));
    let models = Models::open(args)?;
    let (rules, tokens) = models.rules(args)?;
    let encoded = rules.encode(&tokens, &pairs)?;
    told.extend(encoded.notices);
    let identity = models.identity(args, &data.fingerprint()?, &rules, &tokens)?;
    let work = folder.work(&identity)?;
    let scorer = models.scorer(args, &device)?;
    let mut progress = Progress::new("pairs", pairs.len());
    let (batch, kept) = (args.batch.get(), work.join("rewards.jsonl"));
    let rewards = scores::all(&scorer, &encoded.pairs, batch, &kept, |done| {
        progress.set(done)
    })?;
    drop(progress);
    told.extend(notices(&pairs, &rewards, rules.convention));
    let done = evaluation(
        &pairs,
        &rewards,
        rules.convention,
        &args.model.display().to_string(),
        identity,
    );
    folder.publish(|place| write(place, args, &rules, &done, &pairs, &rewards))?;
    crate::cli::print(&sentences(
        &told,
        &accuracies(&pairs, &rewards, rules.convention),
        &rules,
    ))?;
    show::print(&done)
}

/// The published data set, or the source that `data` names.
fn source(data: &Path) -> Result<Source> {
    match data.to_str() {
        Some("hub") => Source::parse(PUBLISHED),
        _ => Source::parse(data),
    }
}

/// The error with the data in front, where it names no place of its own.
fn named(error: Error, data: &Path) -> Error {
    match error.to_string().starts_with("there are no pairs") {
        true => error.within(&data.display().to_string()),
        false => error,
    }
}

fn write(
    place: &Path,
    args: &RewardBenchArgs,
    rules: &Rules,
    done: &Evaluation,
    pairs: &[Pair],
    rewards: &[Rewards],
) -> Result<()> {
    done.check(&args.out.display().to_string())?;
    done.write(place)?;
    let about = About {
        model: args.model.display().to_string(),
        kind: rules.kind,
        reference: args.reference.as_ref().map(|it| it.display().to_string()),
        template: rules.template.name().to_owned(),
    };
    let texts = pairs
        .iter()
        .map(|pair| rules.template.texts(pair))
        .collect::<Result<Vec<_>>>()?;
    let scored: Vec<_> = pairs
        .iter()
        .zip(&texts)
        .zip(rewards)
        .map(|((pair, texts), rewards)| (pair, texts, rewards))
        .collect();
    let accuracies = accuracies(pairs, rewards, rules.convention);
    result_file::write(place, &about, rules.convention, &accuracies, &scored)?;
    Ok(())
}

/// The notices, a line each, and the sections as the reference prints them.
fn sentences(told: &[String], accuracies: &BTreeMap<String, f64>, rules: &Rules) -> String {
    let mut text = String::new();
    for line in told {
        let _ = writeln!(text, "note: {line}");
    }
    let section = |score: rewardbench::sections::SectionScore| {
        let number = match rules.convention {
            rewardbench::Convention::Allenai => score.share(),
            rewardbench::Convention::Rlhflow => score.percent(),
        };
        match number {
            Some(number) => format!("{} {number}", score.name),
            None => format!("{} absent (the reference writes 0)", score.name),
        }
    };
    let sections = section_scores(accuracies, rules.convention).map(section);
    let _ = writeln!(
        text,
        "sections ({}): {}",
        rules.convention,
        sections.join(", ")
    );
    text
}
