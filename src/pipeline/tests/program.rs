//! The programs that the other tests start: a stage that computes a chain of hashes and meets
//! planted faults, and a pool.

use super::*;
use crate::error::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    pub name: String,
    pub steps: u32,
    pub milliseconds_per_step: u64,
}

/// Arguments that make this test binary run one program of this file; that program reads the
/// arguments that follow them.
pub fn arguments(program: &str) -> Vec<OsString> {
    let name = format!("{}::{program}", module_path!().split_once("::").unwrap().1);
    ["--ignored", "--nocapture", "--exact", &name, "--"]
        .map(OsString::from)
        .to_vec()
}

fn own_arguments() -> Vec<String> {
    std::env::args()
        .skip_while(|argument| argument != "--")
        .skip(1)
        .collect()
}

pub fn fault_path(bench: &Path, name: &str, step: u32) -> PathBuf {
    bench.join("faults").join(format!("{name}.{step}"))
}

/// The stage program, `<key> --store <dir> --device <device>`, as a pool starts it.
#[test]
#[ignore = "a program that other tests start"]
fn stage_program() {
    let arguments = own_arguments();
    let [key, _, dir, _, device] = arguments.as_slice() else {
        return;
    };
    leave_with_parent();
    let store = Store::open(dir).unwrap();
    let result = run_stage(
        &store,
        &key.parse().unwrap(),
        &Placement {
            device: device.into(),
            memory: None,
        },
        body,
    );
    std::process::exit(i32::from(result.is_err()));
}

/// The pool program, `<dir> <steps>`: runs the diamond on the store there until it is killed or
/// done.
#[test]
#[ignore = "a program that other tests start"]
fn pool_program() {
    let arguments = own_arguments();
    let [dir, steps] = arguments.as_slice() else {
        return;
    };
    let graph = slow_diamond(steps.parse().unwrap());
    let (store, unknown) = (Store::open(dir).unwrap(), BTreeMap::new());
    let outcome = pool()
        .run(&store, &graph, &unknown, &Interrupt::new())
        .unwrap();
    std::process::exit(i32::from(outcome.exit_code()));
}

/// The diamond with 5 ms per step.
pub fn slow_diamond(steps: u32) -> Graph {
    graph(
        DIAMOND,
        &Settings {
            steps,
            milliseconds_per_step: 5,
            ..Settings::default()
        },
    )
}

/// Hashes its inputs, then hashes the hash `steps` times, with a checkpoint after each step.
pub fn body(context: &StageContext) -> Result<()> {
    let settings: Settings = context.settings()?;
    let bench = context.out().ancestors().nth(3).unwrap();
    let checkpoint = context.scratch().join("state");
    let (mut step, mut state) = (0, digest_inputs(context)?);
    if let Ok(bytes) = fs::read(&checkpoint) {
        let (saved_step, saved_state, cost): (u32, String, Cost) =
            serde_json::from_slice(&bytes).unwrap();
        (step, state) = (saved_step, saved_state);
        context.resume(cost);
    }
    log(bench, &format!("{} from {step}", settings.name));
    while step < settings.steps {
        meet_fault(bench, &settings.name, step)?;
        state = advance(&state, step);
        step += 1;
        context.add_tokens(1);
        let saved = serde_json::to_vec(&(step, &state, context.cost())).unwrap();
        let failed = || "the checkpoint cannot be written".to_owned();
        fs::write(checkpoint.with_extension("new"), saved).context(failed)?;
        fs::rename(checkpoint.with_extension("new"), &checkpoint).context(failed)?;
        context.progress(step.into(), settings.steps.into(), "hashing");
        std::thread::sleep(Duration::from_millis(settings.milliseconds_per_step));
    }
    let failed = || "the artifact cannot be written".to_owned();
    fs::create_dir(context.out().join("deep")).context(failed)?;
    fs::write(context.out().join("deep/padding"), state.repeat(1000)).context(failed)?;
    fs::write(context.out().join("state"), state).context(failed)?;
    meet_fault(bench, &settings.name, step)?;
    log(bench, &format!("{} computed", settings.name));
    Ok(())
}

fn digest_inputs(context: &StageContext) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(context.settings::<Settings>()?.name.as_bytes());
    for input in context.spec.inputs.values() {
        hasher.update(&fs::read(context.artifact(input)?.join("state")).unwrap());
    }
    Ok(hasher.finalize().to_string())
}

fn advance(state: &str, step: u32) -> String {
    blake3::hash(format!("{state}{step}").as_bytes()).to_string()
}

fn log(bench: &Path, line: &str) {
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .open(bench.join("log"))
        .unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Executes a planted fault, once: the next attempt gets past it.
fn meet_fault(bench: &Path, name: &str, step: u32) -> Result<()> {
    let path = fault_path(bench, name, step);
    let Ok(fault) = fs::read_to_string(&path) else {
        return Ok(());
    };
    fs::remove_file(path).unwrap();
    match fault.as_str() {
        "error" => Err(Error::store("broken on purpose").hint("mend it")),
        "exit" => {
            eprintln!("last words");
            std::process::exit(7)
        }
        _ => {
            Command::new("sh")
                .args(["-c", &format!("kill -9 {}", std::process::id())])
                .status()
                .unwrap();
            unreachable!("killed")
        }
    }
}
