//! `touchstone model`: describes a model folder, and writes one anew in the layout of the hub.

use super::bytes::Bytes;
use super::{FAILURE, SUCCESS, print};
use crate::data::hub::Source;
use crate::model::checkpoint::{Checkpoint, Conversion, FILES_BESIDE, Inspection};
use crate::model::weights::StoredAs;
use crate::{Context, Result};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ModelCommand {
    /// Describe a model: architecture, sizes, number types, files; fails if it could not be loaded
    Info {
        #[command(flatten)]
        source: SourceArgs,
        /// The same as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a model as the hub publishes them: safetensors, one number type, nothing that is not
    /// read
    Convert {
        #[command(flatten)]
        source: SourceArgs,
        /// Folder to write; it appears whole or not at all
        #[arg(value_name = "DST")]
        to: PathBuf,
        /// Number type of the weights; as they are unless given
        #[arg(long, value_enum, value_name = "TYPE")]
        dtype: Option<StoredAs>,
        /// Bytes of tensors per file, at most: a number with KB, MB, GB, KiB, MiB or GiB
        #[arg(long, value_name = "SIZE", default_value = "5GB")]
        max_shard_size: Bytes,
        /// Replace the model in DST; a folder with anything else in it is never replaced
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Debug, Args)]
struct SourceArgs {
    /// Folder with config.json and model.safetensors or its shards; or hf:owner/name@revision
    #[arg(value_name = "SRC")]
    source: PathBuf,
}

impl SourceArgs {
    fn open(&self) -> Result<Checkpoint> {
        open(&self.source, &FILES_BESIDE)
    }
}

/// Opens the model in a folder; a model on a hub is fetched, with those files of `optional` that it
/// has.
pub(super) fn open(source: &Path, optional: &[&str]) -> Result<Checkpoint> {
    let source = Source::parse(source)?;
    match source.fetch(&["config.json", "model.safetensors"], optional) {
        Ok(folder) => Checkpoint::open(folder),
        // A repository may hold an adapter, which has other files.
        Err(error) if error.to_string().contains(" has no config.json") => {
            match source.fetch(&["adapter_config.json"], &[]) {
                Ok(folder) if folder.join("adapter_config.json").is_file() => {
                    Checkpoint::open(folder).and(Err(error))
                }
                _ => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Returns the exit code: failure if `info` describes a model that cannot be loaded.
pub fn run(args: &ModelArgs) -> Result<u8> {
    match &args.command {
        ModelCommand::Info { source, json } => {
            let found = source.open()?.inspect()?;
            print(&if *json {
                as_json(&found)?
            } else {
                as_text(&found)
            })?;
            Ok(if found.problems.is_empty() {
                SUCCESS
            } else {
                FAILURE
            })
        }
        ModelCommand::Convert {
            source,
            to,
            dtype,
            max_shard_size,
            force,
        } => {
            let how = Conversion {
                stored_as: *dtype,
                shard_bytes: max_shard_size.0,
                force: *force,
            };
            source.open()?.convert(to, &how)?;
            Ok(SUCCESS)
        }
    }
}

fn as_json(found: &Inspection) -> Result<String> {
    let text = serde_json::to_string_pretty(found)
        .context(|| "cannot encode the description of the model".into())?;
    Ok(text + "\n")
}

fn as_text(found: &Inspection) -> String {
    let Inspection {
        config, parameters, ..
    } = found;
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:14}  {value}");
    };
    let named = if found.architectures.is_empty() {
        "none named".into()
    } else {
        found.architectures.join(", ")
    };
    line("architecture", named);
    let sizes = config.sizes();
    let tied = if sizes.tied {
        ", tied to the embedding"
    } else {
        ""
    };
    line("head", format!("{}{tied}", found.head.name()));
    line("parameters", count(parameters.backbone + parameters.head));
    line(
        "  backbone",
        format!(
            "{}, of which embedding {}",
            count(parameters.backbone),
            count(parameters.embedding)
        ),
    );
    line("  head", count(parameters.head));
    let (layers, width, inner) = (sizes.layers, sizes.hidden_size, sizes.intermediate_size);
    line(
        "layers",
        format!(
            "{layers} of width {width}, feed-forward {inner}, {}",
            config.describe_layer()
        ),
    );
    let heads = if sizes.heads == 1 { "head" } else { "heads" };
    let shared = match sizes.key_heads {
        keys if keys == sizes.heads => String::new(),
        1 => "; one head of keys for all".to_owned(),
        keys => format!("; {keys} heads of keys"),
    };
    line(
        "attention",
        format!(
            "{} {heads} of {} dimensions, {} of them rotated, {}{shared}",
            sizes.heads,
            found.head_size,
            found.rotary_dims,
            config.rope().description,
        ),
    );
    line("positions", sizes.positions.to_string());
    let tokens = match (found.tokens, found.padding_rows) {
        (Some(tokens), Some(padding)) => {
            format!("the tokenizer has ids below {tokens}, {padding} rows are padding")
        }
        _ => "no tokenizer.json".into(),
    };
    line("vocabulary", format!("{} rows; {tokens}", sizes.vocab_size));
    if !found.ends.is_empty() {
        let ends: Vec<_> = found.ends.iter().map(ToString::to_string).collect();
        line("ends", format!("token {}", ends.join(" or ")));
    }
    for file in &found.files {
        let dtypes: Vec<_> = file.dtypes.iter().map(ToString::to_string).collect();
        let dtypes = if dtypes.is_empty() {
            "no weights".into()
        } else {
            dtypes.join(" and ")
        };
        line(
            "file",
            format!(
                "{}: {dtypes}, {} tensors, {} bytes",
                file.name,
                file.tensors,
                count(file.bytes)
            ),
        );
    }
    let mut buffers: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &found.unused_buffers {
        *buffers
            .entry(name.splitn(4, '.').last().unwrap_or(name))
            .or_default() += 1;
    }
    for (name, layers) in buffers {
        line("unused buffer", format!("{name}, in {layers} layers"));
    }
    if let Some(reward) = &found.normalisation {
        let bound = if reward.bound == 0.0 {
            "not bounded".into()
        } else {
            format!("bounded by {}", reward.bound)
        };
        line(
            "reward",
            format!("(score - {}) / {}, score {bound}", reward.mean, reward.std),
        );
    }
    const SHOWN: usize = 8;
    for problem in found.problems.iter().take(SHOWN) {
        line("PROBLEM", problem.clone());
    }
    if found.problems.len() > SHOWN {
        line(
            "PROBLEM",
            format!(
                "and {} more (--json lists them all)",
                found.problems.len() - SHOWN
            ),
        );
    }
    text
}

/// A number with separators between thousands.
fn count(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 12, 999, 1_000, 1_234_567].map(count);
        assert_eq!(texts, ["0", "12", "999", "1,000", "1,234,567"]);
    }
}
