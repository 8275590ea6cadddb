//! Random bytes for every parser of foreign bytes: no input may make the program panic, hang, or
//! fail without naming the place of the error. Each parser runs for half a second by default, or
//! for as long as `just fuzz SECONDS` says.
//!
//! Inputs are mutations of small valid files and of earlier inputs that produced a new answer,
//! which reach further into a parser than random bytes. A run is a function of its seed
//! (TOUCHSTONE_FUZZ_SEED). The current input is kept in the target's folder below the build's
//! temporary folder, so that it is available after a crash.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a run says how much it tried"
)]

mod mutate;
mod targets;

use mutate::Mutator;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use targets::Target;
use touchstone::rng::stream;
use touchstone::{Error, ErrorKind};

/// Time limit of one input.
const PATIENCE: Duration = Duration::from_secs(20);
/// Number of inputs kept for further mutation.
const KEPT: usize = 2_000;

#[test]
fn experiments() {
    fuzz(&targets::EXPERIMENT);
}

#[test]
fn configurations_of_models() {
    fuzz(&targets::CONFIGURATION);
}

#[test]
fn tokenizers() {
    fuzz(&targets::TOKENIZER);
}

#[test]
fn safetensors() {
    fuzz(&targets::SAFETENSORS);
}

#[test]
fn indices_of_shards() {
    fuzz(&targets::INDEX);
}

#[test]
fn pickled_weights() {
    fuzz(&targets::PICKLE);
}

#[test]
fn rows() {
    fuzz(&targets::ROWS);
}

#[test]
fn tables() {
    fuzz(&targets::TABLE);
}

#[test]
fn manifests() {
    fuzz(&targets::MANIFEST);
}

#[test]
fn specs() {
    fuzz(&targets::SPEC);
}

/// Feeds mutations of the target's seeds to it until its time is over.
fn fuzz(target: &Target) {
    let number = |name: &str, default: f64| {
        std::env::var(name)
            .ok()
            .map_or(default, |text| text.parse().unwrap())
    };
    let seconds = number("TOUCHSTONE_FUZZ_SECONDS", 0.5);
    let seed = number("TOUCHSTONE_FUZZ_SEED", 1.0) as u64;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("fuzz")
        .join(target.name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let watch = Watch::start(folder.clone());

    let mut corpus = (target.seeds)();
    let seeds = corpus.len();
    assert!(seeds > 0);
    for (number, input) in corpus.iter().enumerate() {
        let answer = watch.over(|| (target.feed)(input, &folder));
        assert!(
            number > 0 || answer.is_ok(),
            "{}: its first seed is not valid: {answer:?}",
            target.name
        );
    }
    let mut mutator = Mutator::new(stream(seed, "fuzz", &[]), target.words);
    let mut answers = BTreeSet::new();
    let (began, mut inputs, mut accepted) = (Instant::now(), 0_u64, 0_u64);
    while began.elapsed().as_secs_f64() < seconds {
        let input = mutator.mutated(&corpus, seeds);
        inputs += 1;
        let fed = catch_unwind(AssertUnwindSafe(|| {
            watch.over(|| (target.feed)(&input, &folder))
        }));
        let answer = fed.unwrap_or_else(|_| fail(target, &folder, &input, "it panics"));
        let shape = match &answer {
            Ok(()) => {
                accepted += 1;
                "accepted".to_owned()
            }
            Err(error) => {
                if let Some(fault) = fault_of(error, target, &folder) {
                    fail(target, &folder, &input, &fault);
                }
                shape(error, &folder)
            }
        };
        if corpus.len() < KEPT && answers.insert((shape, (input.len() + 1).ilog2())) {
            corpus.push(input);
        }
    }
    println!(
        "{}: {inputs} inputs, {accepted} accepted, {} kinds of answers",
        target.name,
        answers.len()
    );
    let _ = std::fs::remove_dir_all(&folder);
}

/// The reason why an error is not fit for users; `None` if it is.
fn fault_of(error: &Error, target: &Target, folder: &Path) -> Option<String> {
    let text = everything_of(error);
    if error.kind() == ErrorKind::Internal {
        return Some(format!("its error is internal: {text}"));
    }
    let places: [&str; 2] = [folder.to_str()?, target.place];
    (!places.iter().any(|place| text.contains(place)))
        .then(|| format!("its error names no place: {text}"))
}

/// The message with its causes, its hint and the name of the text that it points at.
fn everything_of(error: &Error) -> String {
    let mut text = String::new();
    miette::JSONReportHandler::new()
        .render_report(&mut text, error)
        .unwrap();
    text
}

/// The beginning of an error, up to the first quotation from the input.
fn shape(error: &Error, folder: &Path) -> String {
    let message = error.to_string().replace(&folder.display().to_string(), "");
    message
        .chars()
        .take_while(|c| !matches!(c, '`' | '"' | '\''))
        .filter(|c| !c.is_ascii_digit())
        .take(80)
        .collect()
}

fn fail(target: &Target, folder: &Path, input: &[u8], fault: &str) -> ! {
    let name = format!("{}-{}", target.name, &blake3::hash(input).to_hex()[..12]);
    let kept = folder.parent().unwrap_or(folder).join(name);
    std::fs::write(&kept, input).unwrap();
    panic!(
        "{}: {fault}\nthe input is kept as {}",
        target.name,
        kept.display()
    );
}

/// A thread that ends the process if one input takes too long, which a test cannot catch otherwise.
struct Watch {
    /// Milliseconds from `start` to the beginning of the current input; 0 between inputs.
    since: &'static AtomicU64,
    start: Instant,
}

impl Watch {
    fn start(folder: PathBuf) -> Self {
        let (since, start): (&'static AtomicU64, _) =
            (Box::leak(Box::new(AtomicU64::new(0))), Instant::now());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let began = since.load(Ordering::Relaxed);
                if began > 0
                    && start.elapsed().as_millis() as u64 > began + PATIENCE.as_millis() as u64
                {
                    eprintln!(
                        "the input in {} takes more than {PATIENCE:?}",
                        folder.display()
                    );
                    std::process::abort();
                }
            }
        });
        Self { since, start }
    }

    fn over<T>(&self, work: impl FnOnce() -> T) -> T {
        self.since.store(
            self.start.elapsed().as_millis() as u64 + 1,
            Ordering::Relaxed,
        );
        let done = work();
        self.since.store(0, Ordering::Relaxed);
        done
    }
}
