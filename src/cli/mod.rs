//! (to be written)
pub mod runs;
pub mod stage;
