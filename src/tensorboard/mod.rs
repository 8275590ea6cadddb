//! TensorBoard event files of finished stages: the curves and metrics that their artifacts hold, and
//! what they cost. A stage is a run, named by its label and the first digits of its key.
//!
//! | file | idea |
//! |---|---|
//! | `scalars` | the series of numbers in an artifact |
//! | `event` | an event as TensorBoard's protocol buffers have it |
//! | `record` | events framed with their checksums |

mod event;
mod record;
mod scalars;

use crate::error::Result;
use crate::files;
use crate::pipeline::{Manifest, Store};
use chrono::DateTime;
use event::{Event, FILE_VERSION, What};
use scalars::{Series, series_of};
use std::path::{Path, PathBuf};

/// The result of writing event files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Runs whose files were written now.
    pub new: usize,
    /// Runs whose files were there: an artifact never changes, and neither does its run.
    pub kept: usize,
    /// Scalars in the new files.
    pub scalars: usize,
}

/// Writes a run below `folder` for each artifact of `store` whose label has `part` in it.
///
/// # Errors
/// A store that cannot be read, a file of it that was changed, and a folder that cannot be written.
pub fn write(store: &Store, folder: &Path, part: &str) -> Result<Written> {
    let mut written = Written::default();
    for manifest in store.list()? {
        if !manifest.label.contains(part) {
            continue;
        }
        let path = file_of(folder, &manifest);
        if path.exists() {
            written.kept += 1;
            continue;
        }
        let series = series_of(store, &manifest)?;
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        files::replace(&path, &contents(&manifest, &series))?;
        written.new += 1;
        written.scalars += series
            .iter()
            .map(|series| series.values.len())
            .sum::<usize>();
    }
    Ok(written)
}

/// The event file of an artifact.
fn file_of(folder: &Path, manifest: &Manifest) -> PathBuf {
    let mut path = folder.to_owned();
    for part in manifest.label.split('/') {
        let plain: String = part
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || "-_+=.".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        // Neither the folder itself nor the one above.
        match plain.trim_matches('.') {
            "" => path.push("_"),
            plain => path.push(plain),
        }
    }
    path.push(manifest.key.short());
    path.join(format!(
        "events.out.tfevents.{:010}.touchstone",
        started(manifest) as u64
    ))
}

/// Seconds since 1970 at which the stage's process started; 0 if its manifest does not say it.
fn started(manifest: &Manifest) -> f64 {
    DateTime::parse_from_rfc3339(&manifest.started)
        .map_or(0.0, |time| time.timestamp().max(0) as f64)
}

/// The bytes of an event file. Times of events are spread evenly over the stage's duration, as
/// artifacts do not hold them.
fn contents(manifest: &Manifest, series: &[Series]) -> Vec<u8> {
    let start = started(manifest);
    let mut bytes = Vec::new();
    let mut add = |wall_time: f64, step: i64, what: What| {
        let event = Event {
            wall_time,
            step,
            what,
        };
        record::append(&mut bytes, &event.encoded());
    };
    add(start, 0, What::Version(FILE_VERSION));
    for Series {
        name,
        first,
        values,
    } in series
    {
        for (place, &value) in values.iter().enumerate() {
            let share = (place + 1) as f64 / values.len() as f64;
            let wall_time = start + share * manifest.wall_seconds;
            let step = first + place as i64;
            add(wall_time, step, What::Scalar { name, value });
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Graph, Placement, StageSpec, run_stage};
    use serde_json::json;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A store with one artifact that has a curve and metrics.
    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut graph) = (Store::open(dir.path().join("runs")).unwrap(), Graph::new());
        let spec = StageSpec {
            kind: "sft".into(),
            version: 1,
            settings: json!(null),
            inputs: Default::default(),
            seed: None,
        };
        let key = graph
            .add(spec, "irl/mini 1b/../iteration 2/sft", 1.0)
            .unwrap();
        store.plan(&graph).unwrap();
        let place = Placement {
            device: "flex".into(),
            memory: None,
        };
        run_stage(&store, &key, &place, |context| {
            let write = |name: &str, value: serde_json::Value| {
                std::fs::write(context.out().join(name), value.to_string()).unwrap();
            };
            write("curve.json", json!({"loss": [2.0, null, 1.0], "pairs": 7}));
            write(
                "metrics.json",
                json!([{"metric": "gold", "value": 0.5, "n": 3}]),
            );
            Ok(())
        })
        .unwrap();
        (dir, store)
    }

    #[test]
    fn a_run_is_written_once_and_stays_in_its_folder() {
        let (dir, store) = store();
        let out = dir.path().join("board");
        let first = write(&store, &out, "sft").unwrap();
        assert_eq!((first.new, first.kept), (1, 0));
        let again = write(&store, &out, "sft").unwrap();
        assert_eq!((again.new, again.kept), (0, 1));
        assert_eq!(write(&store, &out, "ppo").unwrap(), Written::default());
        let run = out.join("irl/mini_1b/_/iteration_2/sft");
        assert!(run.is_dir(), "{run:?}");
        assert_eq!(files::names_in(dir.path()).unwrap(), ["board", "runs"]);
    }

    /// The bytes that TensorBoard 2.21's own classes and checksums (`Event.SerializeToString`,
    /// `masked_crc32c`) give for the same two events.
    #[test]
    fn the_bytes_are_those_of_the_format() {
        let (_dir, store) = store();
        let mut manifest = store.list().unwrap().remove(0);
        manifest.started = "2026-01-02T03:04:05Z".into();
        manifest.wall_seconds = 10.0;
        let series = [Series {
            name: "loss".into(),
            first: 3,
            values: vec![0.5],
        }];
        let expected = [
            "1800000000000000a37f4b220900004069cd55da411a0d627261696e2e4576656e743a323a55afd8",
            "1a00000000000000129bd82d090000c06bcd55da4110032a0d0a0b0a046c6f7373150000003fb417c930",
        ];
        assert_eq!(hex(&contents(&manifest, &series)), expected.concat());
    }
}
