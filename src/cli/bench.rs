//! `touchstone bench`: measures how fast a device does the work of a study's stages, at the study's
//! shapes. It prints one line of JSON per case, with everything that another program needs to do
//! the same work: `benches/peer/gpu.py` reads them.

use super::bytes::Bytes;
use super::{device_spec, print};
use crate::bench::{Bench, Effort};
use crate::device::{self, DeviceSpec, hardware};
use crate::experiment::{Experiment, Hyper, Selection};
use crate::judges::JudgeId;
use crate::methods::training::{Dtype, Training};
use crate::model::DecoderConfig;
use crate::stages::Stage;
use crate::stages::ppo::Ppo;
use crate::stages::sft::Sft;
use crate::stages::work::{self, Precision, Sizes};
use crate::{Error, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::time::Instant;

#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Name of an experiment, or path of its file
    #[arg(default_value = "tldr")]
    pub experiment: String,
    /// Which models, lengths and batches, as the experiment declares under [scale.<NAME>]
    #[arg(long, value_name = "NAME", default_value = "mini")]
    pub scale: String,
    /// Model of the experiment [default: the first of the scale]
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Override a hyper-parameter; may be given again
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// What to time; may be given again [default: all]
    #[arg(long, value_enum, value_name = "CASE")]
    pub case: Vec<Case>,
    /// Where tensors are computed: flex, libtorch, libtorch:cuda:N or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = device::DEFAULT, value_parser = device_spec, env = "TOUCHSTONE_DEVICE")]
    pub device: DeviceSpec,
    /// Memory to fill, as 16GiB [default: what is free, or the GPU's]; rows are split until they
    /// fit, as in a stage
    #[arg(long, value_name = "SIZE", env = "TOUCHSTONE_MEMORY")]
    pub memory: Option<Bytes>,
    /// GPU whose peak the speed is measured against, such as h100-80gb [default: as the driver
    /// calls it]
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Rounds before the first that counts
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub warm_up: usize,
    /// Rounds that count, at least
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of the rounds that count, at least
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub seconds: f64,
}

/// Largest number of seconds: a day.
const LONGEST: f64 = 86_400.0;

/// A case to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// One optimiser step of SFT
    Sft,
    /// One batch of responses
    Generate,
    /// One update of PPO: rollouts, scores, advantages, optimiser steps
    Ppo,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Generate => "generate",
            Self::Ppo => "ppo",
        }
    }
}

pub fn run(args: &BenchArgs) -> Result<()> {
    let selection = Selection {
        scale: args.scale.clone(),
        sizes: args.size.iter().cloned().collect(),
        set: args.set.clone(),
        ..Selection::default()
    };
    let study = Experiment::load(&args.experiment)?.resolve(&selection)?;
    let [(size, model), ..] = study.sizes.as_slice() else {
        return Err(Error::configuration("the scale names no model"));
    };
    // A model without a vocabulary size of its own takes that of the embedded world.
    let config = model.config(model.vocab_size.unwrap_or(256));
    let cases = if args.case.is_empty() {
        Case::value_variants()
    } else {
        &args.case
    };
    for &case in cases {
        print(&format!(
            "{}\n",
            line(args, case, size, &config, &study.shared)?
        ))?;
    }
    Ok(())
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds = text
        .trim()
        .parse::<f64>()
        .ok()
        .filter(|seconds| (0.0..=LONGEST).contains(seconds));
    seconds.ok_or_else(|| format!("`{text}` is not a number of seconds from 0 to {LONGEST}"))
}

/// Times one case and describes it as one JSON value.
fn line(
    args: &BenchArgs,
    case: Case,
    size: &str,
    config: &DecoderConfig,
    hyper: &Hyper,
) -> Result<Value> {
    let Hyper {
        generation,
        sft,
        ppo,
        ..
    } = hyper;
    let estimate = |training: &Training| {
        let (generation, training) = (generation.clone(), training.clone());
        match case {
            Case::Sft => {
                let stage = Sft {
                    generation,
                    sft: sft.clone(),
                    training,
                    own_epochs: false,
                };
                stage.work(Sizes::new(config, sft.batch_size))
            }
            Case::Generate => {
                let sizes = Sizes::new(config, generation.batch_size);
                work::sampling(
                    sizes.shapes(&generation),
                    sizes.rows,
                    Precision::from(&training),
                )
            }
            Case::Ppo => {
                let stage = Ppo {
                    generation,
                    ppo: ppo.clone(),
                    training,
                    reward: JudgeId::Learned,
                    round: 0,
                };
                stage.work(Sizes::new(config, ppo.rollouts))
            }
        }
    };
    let (work, backend) = (estimate(&hyper.training), args.device.profile());
    let memory = args
        .memory
        .map(|Bytes(limit)| limit)
        .or_else(|| hardware::memory_of(args.device, 1));
    let micro_batch = match memory {
        None => None,
        Some(limit) => Some(work.micro_batch(limit, backend).ok_or_else(|| {
            Error::memory(format!(
                "`{}` needs more than {limit} bytes even one row at a time",
                case.name()
            ))
            .hint("--set training.gradient_checkpointing=true or a smaller --size takes less")
        })?),
    };
    let bench = Bench {
        config: config.clone(),
        device: device::select(args.device)?,
        training: Training {
            micro_batch,
            ..hyper.training.clone()
        },
        prompt: generation.max_prompt_tokens,
        response: generation.max_response_tokens,
    };
    let started = Instant::now();
    let (mut timed, settings) = match case {
        Case::Sft => (bench.sft(sft)?, json!(sft)),
        Case::Generate => (bench.generate(generation.batch_size)?, json!(generation)),
        Case::Ppo => (bench.ppo(ppo, generation.batch_size)?, json!(ppo)),
    };
    let setup = started.elapsed().as_secs_f64();
    let rounds = timed.measure(Effort {
        warm_up: args.warm_up,
        rounds: args.rounds,
        seconds: args.seconds,
    })?;

    // By convention utilisation counts the operations that the model needs, not those that
    // checkpointing repeats.
    let epochs = match case {
        Case::Sft => sft.epochs,
        Case::Ppo => ppo.updates,
        Case::Generate => 1,
    };
    let needed = Training {
        gradient_checkpointing: false,
        ..hyper.training.clone()
    };
    let flops = estimate(&needed).flops / epochs as f64;
    let hardware = match &args.target {
        Some(name) => Some(hardware::Hardware::named(name)?),
        None => hardware::Hardware::of_gpu(args.device),
    };
    let peak = |hardware: &hardware::Hardware| match hyper.training.dtype {
        Dtype::Bf16 => hardware.peak_bf16,
        Dtype::F32 => hardware.peak_f32,
    };
    let median = rounds.median();
    Ok(json!({
        "case": case.name(),
        "device": args.device,
        "model": size,
        "config": config,
        "prompt": bench.prompt,
        "response": bench.response,
        "batch": generation.batch_size,
        "settings": settings,
        "training": hyper.training,
        // A batch of responses is not split.
        "micro_batch": micro_batch.filter(|_| case != Case::Generate),
        // Until the first step: the model's weights, its optimiser and the rows.
        "setup_s": setup,
        "tokens": timed.tokens,
        "tokens_per_second": timed.tokens as f64 / median,
        "median_s": median,
        "fastest_s": rounds.fastest(),
        "rounds": rounds.count(),
        "flops": flops,
        "flops_per_second": flops / median,
        "hardware": hardware.as_ref().map(|hardware| hardware.name.clone()),
        "model_flops_utilisation": hardware.as_ref().map(|hardware| flops / median / peak(hardware)),
    }))
}
