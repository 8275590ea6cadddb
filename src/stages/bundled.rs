//! Stage `bundled`: a base that comes with touchstone, used instead of repeating the pre-training
//! that made it.

use super::pretrain::Pretrain;
use super::{NoInputs, Stage};
use crate::model::tokenizer::CHAT_TEMPLATE;
use crate::pipeline::StageContext;
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundled {
    pub name: String,
    /// Hash of the weights; the keys of all stages that build on them depend on it.
    pub blake3: String,
}

impl Stage for Bundled {
    const KIND: &'static str = "bundled";
    const VERSION: u32 = 1;
    type Inputs = NoInputs;
    type Sizes<'a> = ();

    fn run(self, _: NoInputs, context: &StageContext) -> Result<()> {
        let base = BUNDLED_BASES
            .iter()
            .find(|base| base.stage() == self)
            .ok_or_else(|| {
                Error::model(format!(
                    "this touchstone does not carry the base `{}` ({})",
                    self.name, self.blake3
                ))
                .hint("run `touchstone reproduce` again: it plans anew")
            })?;
        let files = [
            ("config.json", base.config),
            ("model.safetensors", base.weights),
            ("tokenizer.json", base.tokenizer),
        ];
        let template = base.chat_template.map(|text| (CHAT_TEMPLATE, text));
        for (name, bytes) in files.into_iter().chain(template) {
            let path = context.out().join(name);
            std::fs::write(&path, bytes).context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// A base that comes with touchstone: made by `pretrain`, rebuilt and compared by `touchstone base
/// tldr`.
pub struct BundledBase {
    pub name: &'static str,
    /// The stage that made it, as JSON; the base can replace exactly this stage.
    made_by: &'static str,
    config: &'static [u8],
    weights: &'static [u8],
    tokenizer: &'static [u8],
    /// `None` for a base without conversations.
    chat_template: Option<&'static [u8]>,
}

macro_rules! bundled_base {
    ($name:literal) => {
        bundled_base!($name, None)
    };
    ($name:literal, conversations) => {
        bundled_base!(
            $name,
            Some(include_bytes!(concat!(
                "../../datasets/base/",
                $name,
                "/chat_template.jinja"
            )))
        )
    };
    ($name:literal, $template:expr) => {
        BundledBase {
            name: $name,
            made_by: include_str!(concat!("../../datasets/base/", $name, "/made_by.json")),
            config: include_bytes!(concat!("../../datasets/base/", $name, "/config.json")),
            weights: include_bytes!(concat!("../../datasets/base/", $name, "/model.safetensors")),
            tokenizer: include_bytes!(concat!("../../datasets/base/", $name, "/tokenizer.json")),
            chat_template: $template,
        }
    };
}

static BUNDLED_BASES: [BundledBase; 10] = [
    bundled_base!("mini-1b"),
    bundled_base!("mini-1b-1"),
    bundled_base!("mini-1b-2"),
    bundled_base!("mini-1b-3"),
    bundled_base!("mini-1b-4"),
    bundled_base!("mini-2.8b"),
    bundled_base!("mistral-mini", conversations),
    bundled_base!("mistral-mini-1", conversations),
    bundled_base!("mistral-mini-2", conversations),
    bundled_base!("mistral-mini-wide", conversations),
];

/// The name of base number `number` of a size, used for its folder and in the program.
pub fn bundled_name(size: &str, number: u64) -> String {
    if number == 0 {
        size.into()
    } else {
        format!("{size}-{number}")
    }
}

impl BundledBase {
    /// The bundled checkpoint made by exactly this pre-training, if there is one.
    pub fn made_by(stage: &Pretrain, seed: u64) -> Option<&'static Self> {
        let wanted = provenance(stage, seed);
        BUNDLED_BASES.iter().find(|base| {
            serde_json::from_str(base.made_by).is_ok_and(|made: serde_json::Value| made == wanted)
        })
    }

    pub fn stage(&self) -> Bundled {
        Bundled {
            name: self.name.into(),
            blake3: blake3::hash(self.weights).to_hex().to_string(),
        }
    }
}

/// The record that is stored beside a bundled checkpoint of how it was made.
pub fn provenance(stage: &Pretrain, seed: u64) -> serde_json::Value {
    serde_json::json!({ "stage": stage, "seed": seed })
}
