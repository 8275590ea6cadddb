//! `touchstone doctor`: reports the capabilities of this machine, what is missing and how to get
//! it. One line per finding.

use super::{FAILURE, SUCCESS, device_spec, print};
#[cfg(feature = "hub")]
use crate::data::hub::Environment;
use crate::device::memory::{self, Available};
use crate::device::{self, DeviceSpec};
use crate::error::{Context, Result};
use crate::experiment::{self, Experiment};
use crate::model::ModelTokenizer;
use clap::Args;
use miette::Diagnostic;
use std::error::Error as _;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Device to compute a small product on: flex, libtorch, libtorch:cuda:N or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = device::DEFAULT, value_parser = device_spec, env = "TOUCHSTONE_DEVICE")]
    pub device: DeviceSpec,
    /// Folder of results, whose disk is looked at
    #[arg(
        long,
        value_name = "DIR",
        default_value = "runs",
        env = "TOUCHSTONE_STORE"
    )]
    pub store: PathBuf,
    /// Folder with a tokenizer.json to open
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
}

/// Prints all findings.
///
/// # Errors
/// None of its own; the exit code is 1 if a check failed, so that scripts can use it.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let here =
        std::env::current_dir().context(|| "the current folder cannot be read".to_owned())?;
    let mut findings = vec![
        version(),
        devices(),
        computes(args.device),
        cores(),
        memory(memory::available().as_ref()),
        disk(&args.store),
    ];
    findings.extend(experiments(&here));
    findings.extend(args.tokenizer.as_deref().map(tokenizer));
    #[cfg(feature = "hub")]
    findings.push(hub(Environment::of_process()));
    #[cfg(not(feature = "hub"))]
    findings.push(hub());
    for finding in &findings {
        print(&format!("{finding}\n"))?;
    }
    let failed = findings.iter().any(|finding| finding.state == State::Fail);
    Ok(if failed { FAILURE } else { SUCCESS })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    /// Works, but with a drawback.
    Warn,
    Fail,
}

#[derive(Debug)]
struct Finding {
    state: State,
    subject: &'static str,
    text: String,
    remedy: Option<String>,
}

impl Finding {
    fn new(state: State, subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            state,
            subject,
            text: text.into(),
            remedy: None,
        }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        let state = match self.state {
            State::Ok => "ok  ",
            State::Warn => "warn",
            State::Fail => "fail",
        };
        write!(formatter, "{state}  {:<11} {}", self.subject, self.text)?;
        match &self.remedy {
            Some(remedy) => write!(formatter, "\n      {:<11} {remedy}", ""),
            None => Ok(()),
        }
    }
}

fn version() -> Finding {
    let revision = option_env!("TOUCHSTONE_REVISION")
        .map_or(String::new(), |revision| format!(", revision {revision}"));
    Finding::new(
        State::Ok,
        "version",
        format!("touchstone {}{revision}", env!("CARGO_PKG_VERSION")),
    )
}

fn devices() -> Finding {
    Finding::new(
        State::Ok,
        "devices",
        format!("built in: {}", device::built().join(", ")),
    )
}

fn computes(spec: DeviceSpec) -> Finding {
    match device::try_out(spec) {
        Ok(()) => Finding::new(State::Ok, "device", format!("`{spec}` computes")),
        Err(error) => {
            let cause = error
                .source()
                .map_or(String::new(), |cause| format!(": {cause}"));
            let hint = error.help().map(|hint| hint.to_string());
            Finding {
                remedy: hint,
                ..Finding::new(State::Fail, "device", format!("{error}{cause}"))
            }
        }
    }
}

fn cores() -> Finding {
    match std::thread::available_parallelism() {
        Ok(cores) => Finding::new(
            State::Ok,
            "cores",
            format!("{cores}: as many stages run at once unless --jobs says"),
        ),
        Err(error) => {
            Finding::new(State::Warn, "cores", format!("unknown: {error}")).remedy("set --jobs")
        }
    }
}

/// Memory allowed for one stage of the embedded world, in MiB.
const STAGE_MIB: u64 = 1024;

fn memory(available: Option<&Available>) -> Finding {
    let Some(Available { bytes, bound }) = available else {
        return Finding::new(
            State::Warn,
            "memory",
            "this system does not say how much is free",
        )
        .remedy(format!("allow about {STAGE_MIB} MiB for each of --jobs"));
    };
    let mib = bytes >> 20;
    if mib < STAGE_MIB {
        Finding::new(State::Warn, "memory", format!("{mib} MiB {bound}")).remedy(format!(
            "one stage may need {STAGE_MIB} MiB: close other programs and use --jobs 1"
        ))
    } else {
        Finding::new(
            State::Ok,
            "memory",
            format!("{:.1} GiB {bound}", mib as f64 / 1024.0),
        )
    }
}

fn disk(store: &Path) -> Finding {
    // The store need not exist yet; the nearest existing folder is used.
    let absolute = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
    let Some(folder) = absolute.ancestors().find(|folder| folder.exists()) else {
        return Finding::new(
            State::Fail,
            "disk",
            format!("no part of {} exists", absolute.display()),
        );
    };
    if let Err(error) = tempfile::tempfile_in(folder) {
        return Finding::new(
            State::Fail,
            "disk",
            format!("cannot write to {}: {error}", folder.display()),
        )
        .remedy("choose another folder with --store or TOUCHSTONE_STORE");
    }
    match fs4::available_space(folder) {
        Ok(bytes) => space(folder, bytes),
        Err(error) => Finding::new(
            State::Warn,
            "disk",
            format!("free space at {}: {error}", folder.display()),
        ),
    }
}

fn space(folder: &Path, bytes: u64) -> Finding {
    let gib = bytes as f64 / f64::from(1 << 30);
    let text = format!("{gib:.1} GiB free at {}", folder.display());
    let remedy = "free some, or choose another folder with --store or TOUCHSTONE_STORE";
    match gib {
        gib if gib < 0.1 => Finding::new(State::Fail, "disk", text).remedy(remedy),
        gib if gib < 2.0 => Finding::new(State::Warn, "disk", text).remedy(remedy),
        _ => Finding::new(State::Ok, "disk", text),
    }
}

/// Checks the experiments that can be named from the folder `here`.
fn experiments(here: &Path) -> Vec<Finding> {
    let check = |found: String| match Experiment::load_from(&found, here) {
        Ok(experiment) => {
            let profiles: Vec<_> = experiment.profiles().collect();
            Finding::new(
                State::Ok,
                "experiment",
                format!("{}: profiles {}", experiment.name, profiles.join(", ")),
            )
        }
        Err(error) => Finding::new(State::Fail, "experiment", format!("{found}: {error}"))
            .remedy(format!("`touchstone plan {found}` shows the line")),
    };
    experiment::available(here).into_iter().map(check).collect()
}

fn tokenizer(folder: &Path) -> Finding {
    let path = folder.join("tokenizer.json");
    match ModelTokenizer::open(folder) {
        Ok(tokenizer) => {
            let size = tokenizer.vocabulary_size();
            Finding::new(
                State::Ok,
                "tokenizer",
                format!("{} has {size} tokens", path.display()),
            )
        }
        Err(error) => Finding::new(
            State::Fail,
            "tokenizer",
            format!("{}: {error}", path.display()),
        )
        .remedy("give a folder with the tokenizer.json of a Hugging Face model"),
    }
}

/// The settings by which a Hugging Face hub would be reached.
#[cfg(feature = "hub")]
fn hub(environment: Result<Environment>) -> Finding {
    match environment {
        Ok(Environment {
            endpoint,
            cache,
            offline,
            token,
            ..
        }) => {
            let reach = if offline {
                "offline (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE)".to_owned()
            } else {
                endpoint
            };
            let token = token.map_or("without a token".to_owned(), |token| {
                format!("with the token from {}", token.place)
            });
            let cache = std::path::absolute(&cache).unwrap_or(cache);
            let text = format!(
                "{reach}, {token}, cache {}; the embedded world needs none of it",
                cache.display()
            );
            Finding::new(State::Ok, "hub", text)
        }
        Err(error) => {
            let hint = error.help().map(|hint| hint.to_string());
            Finding {
                remedy: hint,
                ..Finding::new(State::Warn, "hub", error.to_string())
            }
        }
    }
}

#[cfg(not(feature = "hub"))]
fn hub() -> Finding {
    Finding::new(
        State::Warn,
        "hub",
        "not built in: models and data come from local folders alone",
    )
    .remedy("build with `--features hub` to download from a hub")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::memory::Bound;
    use crate::experiment::SHIPPED;

    #[test]
    fn the_default_device_computes() {
        assert_eq!(computes(device::DEFAULT).state, State::Ok);
    }

    #[test]
    fn memory_is_said_with_what_bounds_it() {
        let bound = Bound::Cgroup {
            path: "/sys/fs/cgroup/job".into(),
            limit: 4 << 30,
        };
        let finding = memory(Some(&Available {
            bytes: 3 << 30,
            bound,
        }));
        assert_eq!(finding.state, State::Ok);
        assert_eq!(
            finding.text,
            "3.0 GiB left of the 4.0 GiB that the control group /sys/fs/cgroup/job allows"
        );
        let little = memory(Some(&Available {
            bytes: 20 << 20,
            bound: Bound::Machine,
        }));
        assert_eq!(
            (little.state, little.text.as_str()),
            (State::Warn, "20 MiB free on this machine")
        );
        assert_eq!(memory(None).state, State::Warn);
    }

    #[test]
    fn little_disk_is_a_warning_and_none_a_failure() {
        let state = |mib: u64| space(Path::new("runs"), mib << 20).state;
        assert_eq!(
            [state(10), state(1024), state(4096)],
            [State::Fail, State::Warn, State::Ok]
        );
    }

    #[test]
    fn a_store_that_is_not_there_yet_is_judged_by_the_folder_above() {
        let folder = tempfile::tempdir().unwrap();
        let finding = disk(&folder.path().join("not/yet"));
        assert!(
            finding.text.contains(&folder.path().display().to_string()),
            "{}",
            finding.text
        );
        assert!(
            !folder.path().join("not").exists(),
            "looking changes nothing"
        );
        // Nothing can be created inside a file.
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(disk(&file.join("runs")).state, State::Fail);
    }

    #[test]
    fn shipped_experiments_are_looked_at_and_a_broken_one_fails() {
        let folder = tempfile::tempdir().unwrap();
        let states = || {
            experiments(folder.path())
                .iter()
                .map(|finding| finding.state)
                .collect::<Vec<_>>()
        };
        assert_eq!(states(), [State::Ok; SHIPPED.len()]);
        std::fs::create_dir(folder.path().join("experiments")).unwrap();
        std::fs::write(
            folder.path().join("experiments/mine.toml"),
            "extends = \"tldr\"\nnmae = \"mine\"\n",
        )
        .unwrap();
        assert_eq!(
            states(),
            [&[State::Fail][..], &[State::Ok; SHIPPED.len()]].concat()
        );
    }

    #[test]
    fn a_folder_without_tokenizer_fails() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(tokenizer(folder.path()).state, State::Fail);
    }

    #[cfg(feature = "hub")]
    #[test]
    fn the_hub_s_variables_are_honoured() {
        let with = |set: &'static [(&str, &str)]| {
            let find = |name: &str| {
                set.iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).into())
            };
            hub(Environment::read(find))
        };
        let nothing = with(&[("HOME", "/nowhere")]);
        assert!(
            nothing
                .text
                .starts_with("https://huggingface.co, without a token"),
            "{}",
            nothing.text
        );
        let set = with(&[
            ("HF_ENDPOINT", "https://mirror"),
            ("HF_TOKEN", "secret"),
            ("HF_HOME", "/big/hf"),
        ])
        .text;
        assert!(
            set.starts_with("https://mirror, with the token from HF_TOKEN, cache /big/hf/hub"),
            "{set}"
        );
        assert!(!set.contains("secret"));
        assert!(
            with(&[("TRANSFORMERS_OFFLINE", "1")])
                .text
                .starts_with("offline")
        );
        assert!(
            with(&[("HF_HUB_OFFLINE", "0")])
                .text
                .starts_with("https://")
        );
        assert_eq!(with(&[("HF_ENDPOINT", "mirror")]).state, State::Warn);
    }

    #[test]
    fn a_finding_is_a_line_and_its_remedy_another() {
        let finding = Finding::new(State::Warn, "disk", "full").remedy("free some");
        assert_eq!(
            finding.to_string(),
            "warn  disk        full\n                  free some"
        );
    }
}
