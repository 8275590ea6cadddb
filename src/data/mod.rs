//! (to be written)
pub mod world;
