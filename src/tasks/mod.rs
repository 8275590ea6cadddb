//! Tasks: the form in which data become a model's tokens, and the tokens that are trained on.

pub mod chat;
