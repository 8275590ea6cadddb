//! The keys of `config.json` of the Llama family, as transformers 4 and 5 write them.

use crate::model::checkpoint::keys;
use crate::model::tokenizer::TokenIds;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::f64::consts::TAU;

/// The members of the family, by their `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Mistral,
    /// Llama 1 to 3.
    Llama,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    Qwen3,
    Olmo2,
}

impl Family {
    pub const ALL: [Self; 5] = [
        Self::Mistral,
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3,
        Self::Olmo2,
    ];

    /// The value of `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Mistral => "mistral",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Olmo2 => "olmo2",
        }
    }

    /// The values that transformers uses where `config.json` lacks a key. Keys that follow from
    /// others are not included.
    fn defaults(self) -> Value {
        let (positions, epsilon) = match self {
            Self::Mistral => (131_072, 1e-6),
            Self::Llama => (2048, 1e-6),
            Self::Qwen2 | Self::Qwen3 => (32_768, 1e-6),
            Self::Olmo2 => (2048, 1e-5),
        };
        let mut defaults = json!({
            "hidden_act": "silu", "max_position_embeddings": positions, "rms_norm_eps": epsilon, "rope_theta": 10_000.0,
            "tie_word_embeddings": false,
        });
        match self {
            Self::Mistral => {
                defaults["num_key_value_heads"] = json!(8);
                defaults["sliding_window"] = json!(4096);
            }
            Self::Qwen2 | Self::Qwen3 => {
                defaults["num_key_value_heads"] = json!(32);
                defaults["sliding_window"] = json!(4096);
                defaults["use_sliding_window"] = json!(false);
                defaults["max_window_layers"] = json!(28);
            }
            Self::Llama | Self::Olmo2 => {}
        }
        if self == Self::Qwen3 {
            defaults["head_dim"] = json!(128);
        }
        defaults
    }

    /// True if layers may have a window.
    fn slides(self) -> bool {
        matches!(self, Self::Mistral | Self::Qwen2 | Self::Qwen3)
    }
}

/// The keys of Hugging Face's `config.json` that decide the computation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    pub model_type: Family,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Heads of keys and values.
    pub num_key_value_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    pub hidden_act: String,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Tokens that a token of a sliding layer sees, including itself.
    #[serde(default)]
    pub sliding_window: Option<usize>,
    /// The attention type of each layer.
    pub layer_types: Vec<LayerType>,
    #[serde(default)]
    pub attention_bias: bool,
    #[serde(default)]
    pub mlp_bias: bool,
    pub tie_word_embeddings: bool,
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    #[serde(default)]
    pub eos_token_id: Option<TokenIds>,
}

/// Attention of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    FullAttention,
    SlidingAttention,
}

/// A scaling that makes rotary angles slower than the base alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// All angles by one factor.
    Linear { factor: f64 },
    /// Llama 3: angles that turn fewer than `low_freq_factor` times in the original context are
    /// scaled by `factor`, those that turn more than `high_freq_factor` times are not scaled.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// The scaled angle per position.
    pub fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let turns = original_max_position_embeddings as f64 * frequency / TAU;
                if turns > high_freq_factor {
                    frequency
                } else if turns < low_freq_factor {
                    frequency / factor
                } else {
                    let share = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - share) * frequency / factor + share * frequency
                }
            }
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Linear { factor } => format!("scaled by {factor}"),
            Self::Llama3 {
                factor,
                original_max_position_embeddings,
                ..
            } => {
                format!(
                    "scaled as Llama 3 by {factor} beyond {original_max_position_embeddings} positions"
                )
            }
        }
    }

    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let above_one = |factor: f64| factor.is_finite() && factor >= 1.0;
        let fits = match *self {
            Self::Linear { factor } => above_one(factor),
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings,
            } => {
                above_one(factor)
                    && low > 0.0
                    && high > low
                    && high.is_finite()
                    && original_max_position_embeddings > 0
            }
        };
        match fits {
            true => Ok(()),
            false => Err(format!(
                "rope_scaling is {self:?}; a factor is 1 or more, and high_freq_factor above low_freq_factor"
            )),
        }
    }
}

impl LlamaConfig {
    /// Reads the configuration from the keys of a `config.json` of any version of transformers.
    ///
    /// # Errors
    /// A scaling of rotary angles or a type of layer that is not built in, and keys that contradict
    /// each other.
    pub(in super::super) fn from_keys(
        family: Family,
        mut keys: Map<String, Value>,
        origin: &str,
    ) -> Result<Self> {
        let scaling = rope_scaling(&keys, origin)?;
        derive_nulls(&mut keys);
        if let Some(share) = keys::one_of(&keys, &["partial_rotary_factor"], origin)?
            .filter(|share| share.as_f64() != Some(1.0))
        {
            return Err(Error::model(format!(
                "{origin}: partial_rotary_factor is {share}, which is not supported"
            ))
            .hint(format!(
                "only whole heads are rotated in {}",
                family.model_type()
            )));
        }
        let theta = keys::one_of(&keys, &["rope_theta"], origin)?;
        keys.retain(
            |key, value| match keys::ROPE_TABLES.contains(&key.as_str()) {
                true => false,
                false => !value.is_null() || key == "sliding_window",
            },
        );
        keys.extend(theta.map(|theta| ("rope_theta".to_owned(), theta)));
        keys.extend(scaling.map(|scaling| ("rope_scaling".to_owned(), json!(scaling))));
        if let Value::Object(defaults) = family.defaults() {
            for (key, value) in defaults {
                keys.entry(key).or_insert(value);
            }
        }
        for (key, value) in derived(&keys) {
            keys.entry(key).or_insert(value);
        }
        let types = layer_types(family, &keys, origin)?;
        keys.insert("layer_types".into(), json!(types));
        if !types.contains(&LayerType::SlidingAttention) {
            keys.remove("sliding_window");
        }
        serde_json::from_value(Value::Object(keys)).map_err(|cause| {
            Error::model(format!(
                "{origin} is not a configuration of {}: {cause}",
                family.model_type()
            ))
            .hint("fetch config.json again; its keys are those of transformers")
        })
    }

    /// The window of layer `index`; `None` if it sees all tokens before it.
    pub fn window(&self, index: usize) -> Option<usize> {
        let sliding = self.layer_types.get(index) == Some(&LayerType::SlidingAttention);
        self.sliding_window.filter(|_| sliding)
    }

    /// Writes the windows of layers so that every version of transformers reads them: Qwen has
    /// layer types in later versions and the first layer with a window in earlier ones; a Mistral
    /// with layer types would be opened as another model.
    pub fn write_windows(&self, keys: &mut Value) {
        let Value::Object(keys) = keys else { return };
        if !matches!(self.model_type, Family::Qwen2 | Family::Qwen3) {
            keys.remove("layer_types");
            return;
        }
        let full = (0..self.num_hidden_layers)
            .take_while(|layer| self.window(*layer).is_none())
            .count();
        keys.insert(
            "use_sliding_window".into(),
            json!(full < self.num_hidden_layers),
        );
        keys.insert("max_window_layers".into(), json!(full));
    }

    pub(super) fn check_heads(&self) -> std::result::Result<(), String> {
        let (heads, key_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if heads == 0 || key_heads == 0 || !heads.is_multiple_of(key_heads) {
            return Err(format!(
                "num_attention_heads {heads} is not a multiple of num_key_value_heads {key_heads}"
            ));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return Err(format!(
                "heads have {} dimensions; an even number above 0 can be rotated",
                self.head_dim
            ));
        }
        match heads
            .checked_mul(self.head_dim)
            .is_some_and(|width| width <= i32::MAX as usize)
        {
            true => Ok(()),
            false => Err(format!(
                "{heads} heads of {} dimensions are too wide",
                self.head_dim
            )),
        }
    }

    pub(super) fn check_layers(&self) -> std::result::Result<(), String> {
        if self.layer_types.len() != self.num_hidden_layers {
            return Err(format!(
                "layer_types names {} layers, and num_hidden_layers is {}",
                self.layer_types.len(),
                self.num_hidden_layers
            ));
        }
        let (family, sliding) = (self.model_type, LayerType::SlidingAttention);
        let windowed = self
            .layer_types
            .iter()
            .filter(|kind| **kind == sliding)
            .count();
        match (windowed, self.sliding_window) {
            (_, Some(0)) => Err("sliding_window is 0; a token sees at least itself".into()),
            (1.., None) => {
                Err("layer_types has sliding_attention, and there is no sliding_window".into())
            }
            (1.., _) if !family.slides() => {
                Err(format!("layers of {} have no window", family.model_type()))
            }
            (1.., _) if family == Family::Mistral && windowed < self.num_hidden_layers => {
                Err("either all layers of mistral have the window, or none".into())
            }
            _ => Ok(()),
        }
    }
}

/// Values that follow from others: as many heads of keys as of queries, and heads that share the
/// hidden size.
fn derived(keys: &Map<String, Value>) -> Vec<(&'static str, Value)> {
    let number = |key: &str| keys.get(key).and_then(Value::as_u64);
    let Some(heads) = number("num_attention_heads") else {
        return Vec::new();
    };
    let head = number("hidden_size").map(|width| ("head_dim", json!(width / heads.max(1))));
    std::iter::once(("num_key_value_heads", json!(heads)))
        .chain(head)
        .collect()
}

/// Fills in values that are null: a null follows from other keys, and an absent key has its
/// family's default.
fn derive_nulls(keys: &mut Map<String, Value>) {
    for (key, value) in derived(keys) {
        if keys.get(key).is_some_and(Value::is_null) {
            keys.insert(key.into(), value);
        }
    }
}

/// The scaling of rotary angles that a table of rotary keys describes.
fn rope_scaling(keys: &Map<String, Value>, origin: &str) -> Result<Option<RopeScaling>> {
    let [new, old] =
        keys::ROPE_TABLES.map(|table| keys.get(table).filter(|table| !table.is_null()));
    if new
        .zip(old)
        .is_some_and(|(new, old)| kind_of(new) != kind_of(old))
    {
        return Err(Error::model(format!(
            "{origin}: rope_parameters and rope_scaling name different rope_types"
        ))
        .hint("versions of transformers take different ones; keep the one that is right"));
    }
    let Some((table, kind)) = keys::rope_type(keys).filter(|(_, kind)| kind != "default") else {
        return Ok(None);
    };
    if !["linear", "llama3"].contains(&kind.as_str()) {
        return Err(Error::model(format!(
            "{origin}: {table} has the rope_type `{kind}`, which is not supported"
        ))
        .hint("`default`, `linear` and `llama3` are built in"));
    }
    let mut named = keys[table].clone();
    named["rope_type"] = json!(kind);
    serde_json::from_value(named).map(Some).map_err(|cause| {
        Error::model(format!(
            "{origin}: {table} is not a scaling of type `{kind}`: {cause}"
        ))
        .hint("fetch config.json again; its keys are those of transformers")
    })
}

/// The kind of angles that a rotary table names.
fn kind_of(table: &Value) -> Option<&Value> {
    ["rope_type", "type"]
        .into_iter()
        .map(|key| &table[key])
        .find(|kind| !kind.is_null())
}

/// The type of every layer: as given, or by the rule of the family if `layer_types` is absent. Keys
/// that transformers ignores in a family are ignored here too.
fn layer_types(family: Family, keys: &Map<String, Value>, origin: &str) -> Result<Vec<LayerType>> {
    let by_layer = matches!(family, Family::Qwen2 | Family::Qwen3);
    if let Some(given) = keys.get("layer_types").filter(|_| by_layer) {
        return serde_json::from_value(given.clone()).map_err(|cause| {
            Error::model(format!(
                "{origin}: layer_types holds a type that is not supported: {cause}"
            ))
            .hint("`full_attention` and `sliding_attention` are built in")
        });
    }
    let number = |key: &str| {
        keys.get(key)
            .and_then(Value::as_u64)
            .map_or(0, |number| number as usize)
    };
    let windowed = keys
        .get("sliding_window")
        .is_some_and(|window| !window.is_null());
    let used = !by_layer || keys.get("use_sliding_window") == Some(&Value::Bool(true));
    let first = if by_layer {
        number("max_window_layers")
    } else {
        0
    };
    let slides = |layer: usize| family.slides() && windowed && used && layer >= first;
    // More layers than any model has are refused later, when sizes are checked.
    let layers = number("num_hidden_layers").min(1 << 20);
    let kind = |layer| {
        if slides(layer) {
            LayerType::SlidingAttention
        } else {
            LayerType::FullAttention
        }
    };
    Ok((0..layers).map(kind).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DecoderConfig;
    use miette::Diagnostic;

    /// A configuration of three layers with `changes` to its keys; null values stay null.
    fn read(model_type: &str, changes: Value) -> Result<LlamaConfig> {
        let mut keys = json!({
            "model_type": model_type, "vocab_size": 32, "hidden_size": 24, "intermediate_size": 40,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        });
        let keys = keys.as_object_mut().unwrap();
        for (key, value) in changes.as_object().unwrap() {
            keys.insert(key.clone(), value.clone());
        }
        match DecoderConfig::from_keys(keys.clone(), "config.json")? {
            DecoderConfig::Llama(config) => Ok(config),
            DecoderConfig::GptNeoX(_) => panic!("{model_type} is of the family"),
        }
    }

    fn windows(config: &LlamaConfig) -> Vec<Option<usize>> {
        (0..config.num_hidden_layers)
            .map(|layer| config.window(layer))
            .collect()
    }

    /// Defaults found in transformers 4.57.6 and 5.24.0.
    #[test]
    fn absent_keys_have_the_defaults_of_transformers() {
        let bare = |model_type: &str, hidden: usize, heads: usize| {
            let keys = json!({
                "model_type": model_type, "vocab_size": 8, "hidden_size": hidden, "intermediate_size": 8,
                "num_hidden_layers": 1, "num_attention_heads": heads,
            });
            match DecoderConfig::from_keys(keys.as_object().unwrap().clone(), "config.json")
                .unwrap()
            {
                DecoderConfig::Llama(config) => config,
                DecoderConfig::GptNeoX(_) => panic!("{model_type} is of the family"),
            }
        };
        let facts = |config: LlamaConfig| {
            (
                config.num_key_value_heads,
                config.head_dim,
                config.rms_norm_eps,
                config.max_position_embeddings,
            )
        };
        assert_eq!(facts(bare("llama", 64, 4)), (4, 16, 1e-6, 2048));
        assert_eq!(facts(bare("olmo2", 64, 4)), (4, 16, 1e-5, 2048));
        assert_eq!(facts(bare("mistral", 64, 8)), (8, 8, 1e-6, 131_072));
        assert_eq!(facts(bare("qwen2", 64, 32)), (32, 2, 1e-6, 32_768));
        assert_eq!(facts(bare("qwen3", 64, 32)), (32, 128, 1e-6, 32_768));
        assert_eq!(windows(&bare("mistral", 64, 8)), [Some(4096)]);
        assert_eq!(windows(&bare("qwen3", 64, 32)), [None]);
    }

    #[test]
    fn a_null_follows_from_other_keys_where_an_absent_key_has_a_default() {
        let nulls = json!({"num_key_value_heads": null, "head_dim": null, "sliding_window": null});
        for model_type in ["mistral", "qwen2", "qwen3"] {
            let config = read(model_type, nulls.clone()).unwrap();
            assert_eq!(
                (config.num_key_value_heads, config.head_dim),
                (4, 6),
                "{model_type}"
            );
            assert_eq!(windows(&config), [None; 3], "{model_type}");
        }
    }

    #[test]
    fn every_family_reads_the_windows_that_it_has() {
        let keys = json!({"sliding_window": 4, "use_sliding_window": true, "max_window_layers": 1,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]});
        let mut without_types = keys.clone();
        without_types.as_object_mut().unwrap().remove("layer_types");
        // Mistral reads only the window; Llama and OLMo2 read none of these keys.
        assert_eq!(
            windows(&read("mistral", keys.clone()).unwrap()),
            [Some(4); 3]
        );
        assert_eq!(windows(&read("llama", keys.clone()).unwrap()), [None; 3]);
        assert_eq!(windows(&read("olmo2", keys.clone()).unwrap()), [None; 3]);
        assert_eq!(
            windows(&read("qwen2", keys).unwrap()),
            [Some(4), None, Some(4)]
        );
        assert_eq!(
            windows(&read("qwen3", without_types).unwrap()),
            [None, Some(4), Some(4)]
        );
        let unused = json!({"sliding_window": 4, "use_sliding_window": false});
        assert_eq!(windows(&read("qwen2", unused).unwrap()), [None; 3]);
    }

    #[test]
    fn rotary_keys_are_read_where_either_version_writes_them() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32});
        let mut parameters = scaling.clone();
        parameters["rope_theta"] = json!(5e5);
        let old = read("llama", json!({"rope_theta": 5e5, "rope_scaling": scaling})).unwrap();
        assert_eq!(
            read("llama", json!({ "rope_parameters": parameters })).unwrap(),
            old
        );
        assert_eq!(old.rope_theta, 5e5);
        let plain = read(
            "llama",
            json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}),
        )
        .unwrap();
        assert_eq!((plain.rope_theta, plain.rope_scaling), (7.0, None));
    }

    #[test]
    fn llama_3_slows_long_waves_and_leaves_short_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        };
        let turns = |count: f64| TAU * count / 64.0;
        assert_eq!(scaling.apply(turns(5.0)), turns(5.0));
        assert_eq!(scaling.apply(turns(0.5)), turns(0.5) / 8.0);
        // Half way between the two bounds, half of each applies.
        assert!((scaling.apply(turns(2.5)) - turns(2.5) * (0.5 + 0.5 / 8.0)).abs() < 1e-15);
    }

    #[test]
    fn keys_that_would_be_computed_otherwise_are_refused_by_name() {
        let refused = [
            ("llama", json!({"hidden_act": "gelu"}), "hidden_act `gelu`"),
            (
                "llama",
                json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}),
                "rope_type `yarn`",
            ),
            (
                "llama",
                json!({"rope_parameters": {"rope_type": "dynamic"}}),
                "rope_type `dynamic`",
            ),
            (
                "llama",
                json!({"rope_parameters": {"rope_theta": 7.0}, "rope_theta": 8.0}),
                "rope_theta is 8.0",
            ),
            (
                "llama",
                json!({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"type": "linear", "factor": 2.0}}),
                "different rope_types",
            ),
            (
                "llama",
                json!({"partial_rotary_factor": 0.5}),
                "partial_rotary_factor is 0.5",
            ),
            (
                "qwen2",
                json!({"layer_types": ["full_attention", "chunked_attention", "full_attention"]}),
                "chunked_attention",
            ),
            (
                "qwen2",
                json!({"layer_types": ["full_attention"]}),
                "layer_types names 1 layers",
            ),
            (
                "mistral",
                json!({"num_key_value_heads": 3}),
                "num_attention_heads 4 is not a multiple",
            ),
            ("mistral", json!({"head_dim": 5}), "heads have 5 dimensions"),
            (
                "mistral",
                json!({"sliding_window": 0}),
                "sliding_window is 0",
            ),
            ("mistral", json!({"rms_norm_eps": 0.0}), "rms_norm_eps is 0"),
            ("gemma", json!({}), "model_type is gemma"),
        ];
        for (model_type, change, what) in refused {
            let error = read(model_type, change).unwrap_err();
            assert!(error.to_string().contains(what), "{what}: {error}");
            assert!(error.help().is_some(), "{what}: no remedy");
        }
    }
}
