//! The progress of a download: a bar on a terminal, an occasional line elsewhere, all on standard
//! error.

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The interval between lines about a long download if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(500);

/// Prints a line about the hub on standard error, ignoring failures to write it.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "hub: {text}");
}

/// The progress of one file's download.
pub struct Meter {
    what: String,
    size: Option<u64>,
    done: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Meter {
    /// Starts the progress of `what`, of `size` bytes if that is known, `done` of which are already
    /// here; `bar` allows a bar on a terminal.
    pub fn new(what: String, size: Option<u64>, done: u64, bar: bool) -> Self {
        let bar = (bar && std::io::stderr().is_terminal()).then(|| draw(&what, size, done));
        let meter = Self {
            what,
            size,
            done,
            bar,
            last_line: Instant::now(),
        };
        match (done, size) {
            (0, Some(size)) => {
                meter.say(&format!("fetching {} ({})", meter.what, DecimalBytes(size)))
            }
            (0, None) => meter.say(&format!("fetching {}", meter.what)),
            _ => meter.say(&format!(
                "going on with {} ({})",
                meter.what,
                meter.amount()
            )),
        }
        meter
    }

    /// The amount so far: `3.00 MB of 12.00 MB`.
    pub fn amount(&self) -> String {
        let done = DecimalBytes(self.done);
        self.size.map_or_else(
            || done.to_string(),
            |size| format!("{done} of {}", DecimalBytes(size)),
        )
    }

    pub fn set(&mut self, done: u64) {
        self.done = done;
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                self.say(&format!("{}: {}", self.what, self.amount()));
            }
            None => {}
        }
    }

    /// Prints a line that stays on the screen.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn draw(what: &str, size: Option<u64>, done: u64) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (
            ProgressBar::new(size),
            "  {bar:30} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left  {wide_msg}",
        ),
        None => (
            ProgressBar::no_length(),
            "  {decimal_bytes}  {decimal_bytes_per_sec}  {wide_msg}",
        ),
    };
    // The templates are literals; if one were wrong, the default would be shown.
    bar.set_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_message(what.to_owned());
    // Bytes that were already here must not count towards the speed.
    bar.set_position(done);
    bar.reset_eta();
    bar.enable_steady_tick(TICK);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_say_what_is_known() {
        let mut meter = Meter::new("x".into(), Some(12_000_000), 0, true);
        assert_eq!(meter.amount(), "0 B of 12.00 MB");
        meter.set(3_000_000);
        assert_eq!(meter.amount(), "3.00 MB of 12.00 MB");
        assert_eq!(Meter::new("x".into(), None, 560, true).amount(), "560 B");
    }
}
