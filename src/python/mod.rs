//! Text rules of Python that references depend on: methods of its strings, the way it prints values,
//! and its JSON.

pub mod json;
pub mod text;
