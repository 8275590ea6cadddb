//! How far a download is: a bar on a terminal, a line now and then elsewhere, all on standard error.

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Where there is no terminal, a download that takes long says so this often.
const LINE_EVERY: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(500);

/// One file on its way.
pub struct Meter {
    what: String,
    size: Option<u64>,
    done: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Meter {
    /// `what` is fetched, `size` bytes if that is known, of which `done` are here.
    pub fn new(what: String, size: Option<u64>, done: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(&what, size, done));
        let meter = Self { what, size, done, bar, last_line: Instant::now() };
        let verb = if done > 0 { "going on with" } else { "fetching" };
        meter.say(&format!("{verb} {} ({})", meter.what, meter.amount()));
        meter
    }

    /// `12.00 MB`, or `3.00 MB of 12.00 MB` once some are here.
    pub fn amount(&self) -> String {
        match (self.done, self.size) {
            (done, None) => DecimalBytes(done).to_string(),
            (0, Some(size)) => DecimalBytes(size).to_string(),
            (done, Some(size)) => format!("{} of {}", DecimalBytes(done), DecimalBytes(size)),
        }
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

    /// A line that stays.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("hub: {text}")),
            None => eprintln!("hub: {text}"),
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

fn bar(what: &str, size: Option<u64>, done: u64) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (
            ProgressBar::new(size),
            "  {bar:30} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left  {wide_msg}",
        ),
        None => (ProgressBar::no_length(), "  {decimal_bytes}  {decimal_bytes_per_sec}  {wide_msg}"),
    };
    // A template written here is either right or the default is shown.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_owned());
    // What was here before must not count as speed.
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
        let mut meter = Meter::new("x".into(), Some(12_000_000), 0);
        assert_eq!(meter.amount(), "12.00 MB");
        meter.set(3_000_000);
        assert_eq!(meter.amount(), "3.00 MB of 12.00 MB");
        assert_eq!(Meter::new("x".into(), None, 560).amount(), "560 B");
    }
}
