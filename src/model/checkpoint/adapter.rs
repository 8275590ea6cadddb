//! Detection of folders written by PEFT, which hold the difference to a model rather than a model.

use crate::model::contents;
use crate::{Error, Result};
use std::path::Path;

const DESCRIPTION: &str = "adapter_config.json";
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// Refuses a folder that holds an adapter, even beside a model: it is unclear whether the model is
/// meant with or without it.
pub(super) fn refuse(folder: &Path) -> Result<()> {
    let weights = WEIGHTS.into_iter().find(|name| folder.join(name).is_file());
    let described = folder.join(DESCRIPTION);
    let Some(found) = weights.or(described.is_file().then_some(DESCRIPTION)) else {
        return Ok(());
    };
    let base = match described.is_file() {
        true => contents::json(&described)?["base_model_name_or_path"]
            .as_str()
            .map(str::to_owned),
        false => None,
    };
    let of = base.map_or("another model".into(), |base| {
        format!("the base model `{base}`")
    });
    Err(Error::model(format!(
        "{} holds {found}: it is an adapter of PEFT for {of}, and not a whole model",
        folder.display()
    ))
    .hint(
        "merge it first: `AutoPeftModelForCausalLM.from_pretrained(…).merge_and_unload().save_pretrained(…)`; if the \
             folder holds a merged model too, move the adapter's files away",
    ))
}
