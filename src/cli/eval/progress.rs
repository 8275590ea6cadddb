//! The progress of an evaluation: a bar on a terminal, an occasional line elsewhere, on standard
//! error.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The interval between lines if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// A count of finished items.
pub struct Counter {
    what: &'static str,
    total: usize,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Counter {
    /// Counts `total` items, named by `what` in the plural.
    pub fn new(what: &'static str, total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64).with_message(what);
            let style = ProgressStyle::with_template("  {bar:30} {pos}/{len} {msg}  {eta} left");
            // The template is a literal; if it were wrong, the default would be shown.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            what,
            total,
            bar,
            last_line: Instant::now(),
        }
    }

    pub fn set(&mut self, done: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                crate::cli::complain(&format!("{done} of {} {}\n", self.total, self.what));
            }
            None => {}
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
