//! `touchstone doctor`: what this machine offers, what is missing and how to get it. One line per finding.

use super::{FAILURE, SUCCESS};
use crate::device;
use crate::error::{Context, Result};
use crate::experiment::{self, Experiment};
use crate::model::ModelTokenizer;
use burn::tensor::Tensor;
use clap::Args;
use miette::Diagnostic;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Device to compute a small product on: flex, libtorch, libtorch:cuda:N or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "flex", env = "TOUCHSTONE_DEVICE")]
    pub device: String,
    /// Folder of results, whose disk is looked at
    #[arg(long, value_name = "DIR", default_value = "runs", env = "TOUCHSTONE_STORE")]
    pub store: PathBuf,
    /// Folder with a tokenizer.json to open
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
}

/// Prints all findings.
///
/// # Errors
/// None of its own; the exit code is 1 if something failed, so that scripts can ask.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let here = std::env::current_dir().context(|| "the current folder cannot be read".to_owned())?;
    let mut findings = vec![version(), devices(), computes(&args.device), cores(), memory(), disk(&args.store)];
    findings.extend(experiments(&here));
    findings.extend(args.tokenizer.as_deref().map(tokenizer));
    findings.push(hub(|name| std::env::var(name).ok().filter(|value| !value.is_empty())));
    for finding in &findings {
        println!("{finding}");
    }
    let failed = findings.iter().any(|finding| finding.state == State::Fail);
    Ok(if failed { FAILURE } else { SUCCESS })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    /// Works, but less well than it could.
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
        Self { state, subject, text: text.into(), remedy: None }
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
    let revision =
        option_env!("TOUCHSTONE_REVISION").map_or(String::new(), |revision| format!(", revision {revision}"));
    Finding::new(State::Ok, "version", format!("touchstone {}{revision}", env!("CARGO_PKG_VERSION")))
}

fn devices() -> Finding {
    Finding::new(State::Ok, "devices", format!("built in: {}", device::built().join(", ")))
}

/// Multiplies two small matrices, since a missing driver or GPU shows only then, and as a panic.
fn computes(name: &str) -> Finding {
    let device = match device::select(name) {
        Ok(device) => device,
        Err(error) => {
            let hint = error.help().map(|hint| hint.to_string());
            return Finding { remedy: hint, ..Finding::new(State::Fail, "device", error.to_string()) };
        }
    };
    let product = std::panic::catch_unwind(|| {
        let ones = Tensor::<2>::ones([8, 8], &device);
        ones.clone().matmul(ones).sum().into_scalar::<f32>()
    });
    match product {
        Ok(512.0) => Finding::new(State::Ok, "device", format!("`{name}` computes")),
        Ok(other) => Finding::new(State::Fail, "device", format!("`{name}` computes 8 · 64 = {other}"))
            .remedy("its library or driver is broken: reinstall it, or use --device flex"),
        Err(_) => Finding::new(State::Fail, "device", format!("`{name}` cannot be used"))
            .remedy("check the driver and the device's number, or use --device flex"),
    }
}

fn cores() -> Finding {
    match std::thread::available_parallelism() {
        Ok(cores) => {
            Finding::new(State::Ok, "cores", format!("{cores}: as many stages run at once unless --jobs says"))
        }
        Err(error) => Finding::new(State::Warn, "cores", format!("unknown: {error}")).remedy("set --jobs"),
    }
}

/// What one stage of the embedded world is allowed for.
const STAGE_MIB: u64 = 1024;

fn memory() -> Finding {
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_mib(&text));
    match available {
        None => Finding::new(State::Warn, "memory", "this system does not say how much is free")
            .remedy(format!("allow about {STAGE_MIB} MiB for each of --jobs")),
        Some(mib) if mib < STAGE_MIB => Finding::new(State::Warn, "memory", format!("{mib} MiB available"))
            .remedy(format!("one stage may need {STAGE_MIB} MiB: close other programs and use --jobs 1")),
        Some(mib) => Finding::new(State::Ok, "memory", format!("{:.1} GiB available", mib as f64 / 1024.0)),
    }
}

/// MiB that can be used without swapping, from the text of Linux's `/proc/meminfo`.
fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

fn disk(store: &Path) -> Finding {
    // The store need not exist yet; what counts is the nearest folder that does.
    let absolute = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
    let Some(folder) = absolute.ancestors().find(|folder| folder.exists()) else {
        return Finding::new(State::Fail, "disk", format!("no part of {} exists", absolute.display()));
    };
    if let Err(error) = tempfile::tempfile_in(folder) {
        return Finding::new(State::Fail, "disk", format!("cannot write to {}: {error}", folder.display()))
            .remedy("choose another folder with --store or TOUCHSTONE_STORE");
    }
    match fs4::available_space(folder) {
        Ok(bytes) => space(folder, bytes),
        Err(error) => Finding::new(State::Warn, "disk", format!("free space at {}: {error}", folder.display())),
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

/// Whether the experiments that can be named from the folder `here` are valid.
fn experiments(here: &Path) -> Vec<Finding> {
    let check = |found: String| match Experiment::load_from(&found, here) {
        Ok(experiment) => {
            let profiles: Vec<_> = experiment.profiles().collect();
            Finding::new(State::Ok, "experiment", format!("{}: profiles {}", experiment.name, profiles.join(", ")))
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
            Finding::new(State::Ok, "tokenizer", format!("{} has {size} tokens", path.display()))
        }
        Err(error) => Finding::new(State::Fail, "tokenizer", format!("{}: {error}", path.display()))
            .remedy("give a folder with the tokenizer.json of a Hugging Face model"),
    }
}

/// How a Hugging Face hub would be reached; `variable` looks up the environment.
fn hub(variable: impl Fn(&str) -> Option<String>) -> Finding {
    if !cfg!(feature = "hub") {
        return Finding::new(State::Warn, "hub", "not built in: models and data come from local folders alone")
            .remedy("build with `--features hub` to download from a hub");
    }
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
    let cache = variable("HF_HOME").unwrap_or_else(|| "~/.cache/huggingface".into());
    let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    let reach = if offline { "offline (HF_HUB_OFFLINE)".to_owned() } else { endpoint };
    let token = if variable("HF_TOKEN").is_some() { "with HF_TOKEN" } else { "without a token" };
    Finding::new(State::Ok, "hub", format!("{reach}, {token}, cache {cache}; the embedded world needs none of it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_device_computes_and_an_unknown_one_has_a_remedy() {
        assert_eq!(computes("flex").state, State::Ok);
        let unknown = computes("abacus");
        assert_eq!(unknown.state, State::Fail);
        assert!(unknown.remedy.is_some_and(|remedy| remedy.contains("flex")));
    }

    #[test]
    fn available_memory_is_read_from_the_kernel_s_words() {
        let text = "MemTotal:       24580000 kB\nMemFree:  100 kB\nMemAvailable:   20480 kB\n";
        assert_eq!(available_mib(text), Some(20));
        assert_eq!(available_mib("MemTotal: 5 kB"), None);
        assert_eq!(available_mib("MemAvailable: many kB"), None);
    }

    #[test]
    fn little_disk_is_a_warning_and_none_a_failure() {
        let state = |mib: u64| space(Path::new("runs"), mib << 20).state;
        assert_eq!([state(10), state(1024), state(4096)], [State::Fail, State::Warn, State::Ok]);
    }

    #[test]
    fn a_store_that_is_not_there_yet_is_judged_by_the_folder_above() {
        let folder = tempfile::tempdir().unwrap();
        let finding = disk(&folder.path().join("not/yet"));
        assert!(finding.text.contains(&folder.path().display().to_string()), "{}", finding.text);
        assert!(!folder.path().join("not").exists(), "looking changes nothing");
        // Nothing can be made inside a file.
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(disk(&file.join("runs")).state, State::Fail);
    }

    #[test]
    fn shipped_experiments_are_looked_at_and_a_broken_one_fails() {
        let folder = tempfile::tempdir().unwrap();
        let states = || experiments(folder.path()).iter().map(|finding| finding.state).collect::<Vec<_>>();
        assert_eq!(states(), [State::Ok; 3]);
        std::fs::create_dir(folder.path().join("experiments")).unwrap();
        std::fs::write(folder.path().join("experiments/mine.toml"), "extends = \"tldr\"\nnmae = \"mine\"\n").unwrap();
        assert_eq!(states(), [State::Fail, State::Ok, State::Ok, State::Ok]);
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
            hub(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())).text
        };
        assert!(with(&[]).starts_with("https://huggingface.co, without a token"));
        let text = with(&[("HF_ENDPOINT", "https://mirror"), ("HF_TOKEN", "secret"), ("HF_HOME", "/big/hf")]);
        assert!(text.starts_with("https://mirror, with HF_TOKEN, cache /big/hf"), "{text}");
        assert!(!text.contains("secret"));
        assert!(with(&[("HF_HUB_OFFLINE", "1")]).starts_with("offline"));
        assert!(with(&[("HF_HUB_OFFLINE", "0")]).starts_with("https://"));
    }

    #[test]
    fn a_finding_is_a_line_and_its_remedy_another() {
        let finding = Finding::new(State::Warn, "disk", "full").remedy("free some");
        assert_eq!(finding.to_string(), "warn  disk        full\n                  free some");
    }
}
