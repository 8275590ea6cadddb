//! Ctrl-C, SIGTERM and SIGHUP; for workers SIGUSR1 too.

use crate::error::{Context, Result};
use signal_hook::{consts, flag};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The exit code of a run that was interrupted, as shells report a program that Ctrl-C ended.
pub(super) const EXIT_INTERRUPTED: u8 = 130;

/// The signals that ask a run to stop.
#[cfg(unix)]
const SIGNALS: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// A request to stop, shared between a signal handler and the code that checks it from time to
/// time; and the time by which everything should have ended.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    raised: Arc<AtomicBool>,
    deadline: Option<Instant>,
    /// True if the request came as SIGUSR1: the work should go on elsewhere or later.
    elsewhere: Arc<AtomicBool>,
}

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
                Arc::clone(&interrupt.raised),
            )
            .and_then(|_| flag::register(signal, Arc::clone(&interrupt.raised)))
            .context(|| format!("cannot listen for signal {signal}"))?;
        }
        Ok(interrupt)
    }

    /// The same flag with a deadline.
    pub fn with_deadline(&self, deadline: Option<Instant>) -> Self {
        Self {
            raised: Arc::clone(&self.raised),
            elsewhere: Arc::clone(&self.elsewhere),
            deadline,
        }
    }

    /// True if something that takes so many seconds, begun now, would end before the deadline.
    pub fn leaves_time_for(&self, seconds: f64) -> bool {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.deadline
            .is_none_or(|deadline| left(deadline).as_secs_f64() > seconds)
    }

    /// A flag for a worker: the signals of [`Interrupt::on_signals`] raise it however often they
    /// come, and so does SIGUSR1, by which a scheduler announces that time is nearly up.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn of_worker() -> Result<Self> {
        let interrupt = Self::new();
        let listen = |signal, raised: &Arc<AtomicBool>| {
            flag::register(signal, Arc::clone(raised))
                .map(|_| ())
                .context(|| format!("cannot listen for signal {signal}"))
        };
        // The order matters: whoever sees the request must see its kind.
        #[cfg(unix)]
        for flag in [&interrupt.elsewhere, &interrupt.raised] {
            listen(consts::SIGUSR1, flag)?;
        }
        for signal in SIGNALS {
            listen(signal, &interrupt.raised)?;
        }
        Ok(interrupt)
    }

    /// True if SIGUSR1 asked to stop.
    pub fn asks_to_go_on_elsewhere(&self) -> bool {
        self.elsewhere.load(Ordering::SeqCst)
    }

    pub fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
    }

    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
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
