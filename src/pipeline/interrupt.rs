//! Ctrl-C and SIGTERM.

use crate::error::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a run that was interrupted, as shells report a program that Ctrl-C ended.
pub(super) const EXIT_INTERRUPTED: u8 = 130;

/// A wish to stop, shared between a signal handler and those who look at it from time to time.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Never raised, except by [`Interrupt::raise`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Raised by Ctrl-C, SIGTERM and SIGHUP. A second signal ends the program at once, which is safe: stages leave with
    /// their parent, and an artifact is whole or absent.
    ///
    /// # Errors
    /// If the process has such a handler already.
    pub fn on_signals() -> Result<Self> {
        let interrupt = Self::new();
        let raised = interrupt.clone();
        ctrlc::set_handler(move || {
            if raised.0.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
        })
        .context(|| "cannot listen for Ctrl-C".to_owned())?;
        Ok(interrupt)
    }

    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
