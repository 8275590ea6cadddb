//! Tests that stored results stay valid. Shipped experiments keep their keys (`plans`), otherwise
//! all results would be computed again. A kind of stage keeps its output under one version
//! (`outputs`), otherwise old results would be mistaken for new ones.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "hub")]
mod digest;
#[cfg(feature = "hub")]
mod outputs;
mod plans;
