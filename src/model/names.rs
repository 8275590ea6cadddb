//! Names and layouts of parameters in Hugging Face checkpoints. The fields of layers are named as
//! in checkpoints; the decoder and its heads get their names here, by architecture.

use crate::model::arch::Naming;
use crate::model::weights::{Weights, host, transposed};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// Fields of [`Decoder`](crate::model::decoder::Decoder) and of the heads on it.
const DECODER: &str = "decoder";
const EMBEDDING: &str = "embedding";
const NORM: &str = "norm";
const LM_HEAD: &str = "lm_head";

/// The path to a parameter through the fields of modules, in the names of an architecture.
#[derive(Clone, Debug)]
pub struct Path {
    naming: &'static Naming,
    fields: Vec<String>,
}

impl Path {
    pub fn new(naming: &'static Naming) -> Self {
        Self {
            naming,
            fields: Vec::new(),
        }
    }

    /// Enters the field `name` of a container.
    pub fn enter(&mut self, name: &str) {
        self.fields.push(name.to_owned());
    }

    pub fn exit(&mut self) {
        self.fields.pop();
    }

    fn leaf(&self) -> &str {
        self.fields.last().map(String::as_str).unwrap_or_default()
    }

    /// The fields joined by dots, with the architecture's names for the decoder and its heads. Enum
    /// variants are left out.
    pub fn joined(&self) -> String {
        let mut words: Vec<&str> = Vec::with_capacity(self.fields.len());
        let mut parent = "";
        for field in &self.fields {
            // Names of variants begin with a capital, those of fields do not.
            if field.starts_with(char::is_uppercase) {
                continue;
            }
            words.push(match (parent, field.as_str()) {
                (_, DECODER) => self.naming.decoder,
                (DECODER, EMBEDDING) => self.naming.embedding,
                (DECODER, NORM) => self.naming.final_norm,
                (_, LM_HEAD) => self.naming.lm_head,
                (_, field) => field,
            });
            parent = field;
        }
        words.join(".")
    }
}

/// The values of every parameter of `module`.
pub fn weights<M: Module>(module: &M, naming: &'static Naming) -> Weights {
    tensors(module, naming, "model in memory", &Values)
}

/// A way to read one tensor per parameter.
pub trait Read {
    /// Returns a tensor of the parameter's shape; a parameter without one is left out.
    fn read<const D: usize>(&self, parameter: &Param<Tensor<D>>) -> Option<Tensor<D>>;
}

struct Values;

impl Read for Values {
    fn read<const D: usize>(&self, parameter: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        Some(parameter.val())
    }
}

/// The tensors that `read` returns for every parameter of `module`, named and laid out as in a
/// checkpoint. Values are copied to the host when requested.
pub fn tensors<M: Module>(
    module: &M,
    naming: &'static Naming,
    origin: &str,
    read: &impl Read,
) -> Weights {
    let mut visitor = Visitor {
        read,
        path: Path::new(naming),
        found: Weights::new(origin),
    };
    module.visit(&mut visitor);
    visitor.found
}

struct Visitor<'a, R> {
    read: &'a R,
    path: Path,
    found: Weights,
}

impl<R: Read> ModuleVisitor for Visitor<'_, R> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let Some(tensor) = self.read.read(parameter) else {
            return;
        };
        let mut name = self.path.joined();
        if !matches!(self.path.leaf(), "weight" | "bias") {
            name.push_str(".weight");
        }
        // Matrices are `[in, out]` in memory and `[out, in]` on disk; the embedding is a table,
        // `[vocab_size, hidden_size]` in both.
        match tensor.dims().as_slice() {
            &[from, to] if self.path.leaf() != EMBEDDING => {
                self.found.insert_computed(name, &[to, from], move || {
                    Ok(transposed(&host(tensor.clone())?, from, to))
                });
            }
            shape => {
                let shape = shape.to_vec();
                self.found
                    .insert_computed(name, &shape, move || host(tensor.clone()));
            }
        }
    }
}
