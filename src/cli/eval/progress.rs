//! The progress of an evaluation: a bar on a terminal, an occasional line elsewhere, all on
//! standard error.

use crate::cli::complain;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The interval between lines if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// The progress of items of one kind.
pub struct Progress {
    what: &'static str,
    total: usize,
    bar: Option<ProgressBar>,
    started: Option<usize>,
    last_line: Instant,
}

impl Progress {
    /// The progress of `total` items, which `what` names in the plural.
    pub fn new(what: &'static str, total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            let style = ProgressStyle::with_template("  {bar:30} {pos}/{len} {msg}  {eta} left");
            // The template is a literal; if it were wrong, the default would be shown.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(what);
            bar
        });
        Self {
            what,
            total,
            bar,
            started: None,
            last_line: Instant::now(),
        }
    }

    /// Shows that `done` items are finished. Those of the first call are from an earlier run.
    pub fn set(&mut self, done: usize) {
        if self.started.is_none() {
            self.started = Some(done);
            if (1..self.total).contains(&done) {
                complain(&format!(
                    "going on with {done} of {} {}\n",
                    self.total, self.what
                ));
            }
            if let Some(bar) = &self.bar {
                bar.set_position(done as u64);
                bar.reset_eta();
            }
        }
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                complain(&format!("{done} of {} {}\n", self.total, self.what));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
