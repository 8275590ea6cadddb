//! Executors on stages that hash, wait and meet planted faults.

mod in_order;
mod local;
mod resume;
mod worker;

use super::*;
use crate::error::ErrorKind;
use crate::pipeline::tests::program::{self, Settings};
use crate::pipeline::tests::{Bench, DIAMOND, graph, key_of, labels, pool, slot};
use std::collections::BTreeMap;
use std::fs;

pub(super) fn quick() -> Settings {
    Settings {
        steps: 2,
        ..Settings::default()
    }
}
