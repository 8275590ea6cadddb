//! Tasks: the conversion of data to a model's tokens, and the choice of tokens to train on.

pub mod chat;
