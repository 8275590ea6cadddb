//! Stored results stay what they were. Shipped experiments keep the keys that they had (`plans`), or all that was computed
//! would be computed again. A kind of stage makes what it made under its version (`outputs`), or what was computed would be
//! taken for something else.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "hub")]
mod digest;
#[cfg(feature = "hub")]
mod outputs;
mod plans;
