//! Ctrl-C, SIGTERM and SIGHUP.

use crate::error::{Context, Result};
use signal_hook::{consts, flag};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a run that was interrupted, as shells report a program that Ctrl-C ended.
pub(super) const EXIT_INTERRUPTED: u8 = 130;

/// The signals that ask a run to stop.
#[cfg(unix)]
const SIGNALS: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// A request to stop, shared between a signal handler and the code that checks it from time to
/// time.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that only [`Interrupt::raise`] raises.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that Ctrl-C, SIGTERM and SIGHUP raise. A second signal ends the program at once,
    /// which is safe: stages end with their parent, and an artifact is whole or absent.
    ///
    /// A signal that was ignored when the program started stays ignored: `nohup` does that to
    /// SIGHUP, and a shell without job control to the SIGINT of what it runs in the background.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn on_signals() -> Result<Self> {
        let interrupt = Self::new();
        let ignored = ignored_signals();
        for signal in SIGNALS
            .into_iter()
            .filter(|signal| ignored & (1 << (signal - 1)) == 0)
        {
            // The order matters: the flag is still unset when the first signal passes the first
            // handler.
            flag::register_conditional_shutdown(
                signal,
                EXIT_INTERRUPTED.into(),
                Arc::clone(&interrupt.0),
            )
            .and_then(|_| flag::register(signal, Arc::clone(&interrupt.0)))
            .context(|| format!("cannot listen for signal {signal}"))?;
        }
        Ok(interrupt)
    }

    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The signals that this process ignores, as bits, with signal 1 in the lowest bit. Zero where the
/// system does not report them.
#[cfg(target_os = "linux")]
fn ignored_signals() -> u64 {
    procfs::process::Process::myself()
        .and_then(|process| process.status())
        .map_or(0, |status| status.sigign)
}

#[cfg(not(target_os = "linux"))]
fn ignored_signals() -> u64 {
    0
}
