//! The display of a run: on a terminal one line per running stage and one for the whole run;
//! elsewhere one plain line per finished stage. It goes to standard error, since standard output is
//! for results.

use crate::executor::Failure;
use crate::pipeline::Event;
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two redraws of running clocks.
const TICK: Duration = Duration::from_millis(500);
/// Time that must pass before the first estimate of the time left.
const FIRST_ESTIMATE: Duration = Duration::from_secs(3);

pub(in crate::executor) struct Display {
    quiet: bool,
    terminal: Option<Terminal>,
    started: Instant,
    total: usize,
    done: usize,
    /// The finished fraction of each running stage, by position.
    fractions: BTreeMap<usize, f64>,
}

struct Terminal {
    multi: MultiProgress,
    overall: ProgressBar,
    lines: BTreeMap<usize, ProgressBar>,
}

impl Display {
    /// Creates a display for `total` stages, of which `cached` are in the store already.
    pub fn new(total: usize, cached: usize, quiet: bool) -> Self {
        let terminal =
            (!quiet && std::io::stderr().is_terminal()).then(|| Terminal::new(total, cached));
        Self {
            quiet,
            terminal,
            started: Instant::now(),
            total,
            done: cached,
            fractions: BTreeMap::new(),
        }
    }

    pub fn started(&mut self, position: usize, label: &str) {
        self.fractions.insert(position, 0.0);
        if let Some(terminal) = &mut self.terminal {
            terminal.add(position, label);
        }
    }

    pub fn event(&mut self, position: usize, event: &Event) {
        match event {
            Event::Progress { done, total, note } => {
                if let Some(fraction) = self.fractions.get_mut(&position).filter(|_| *total > 0) {
                    *fraction = (*done as f64 / *total as f64).min(1.0);
                }
                self.show(position, &progress_text(*done, *total, note));
            }
            Event::Waiting => self.show(position, "another run computes it"),
            Event::Finished | Event::Failed { .. } => {}
        }
    }

    fn show(&self, position: usize, text: &str) {
        if let Some(line) = self
            .terminal
            .as_ref()
            .and_then(|terminal| terminal.lines.get(&position))
        {
            line.set_message(text.to_owned());
        }
    }

    pub fn cached(&mut self) {
        self.done += 1;
    }

    /// Removes a stage's line because another process turned out to compute it.
    pub fn left(&mut self, position: usize) {
        self.end(position);
    }

    pub fn finished(&mut self, position: usize, label: &str, elapsed: Duration) {
        self.done += 1;
        self.end(position);
        if self.terminal.is_none() {
            self.say(&format!(
                "[{}/{}] {label}  {:.1} s",
                self.done,
                self.total,
                elapsed.as_secs_f64()
            ));
        }
    }

    pub fn failed(&mut self, position: usize, label: &str, failure: &Failure, skipped: usize) {
        self.end(position);
        let cost = if skipped > 0 {
            format!(" (with {skipped} more that would need it)")
        } else {
            String::new()
        };
        let Failure { kind, message } = failure;
        self.say(&format!(
            "failed ({kind}): {label}{cost}\n  {}",
            message.replace('\n', "\n  ")
        ));
    }

    fn end(&mut self, position: usize) {
        self.fractions.remove(&position);
        if let Some(line) = self
            .terminal
            .as_mut()
            .and_then(|terminal| terminal.lines.remove(&position))
        {
            line.finish_and_clear();
        }
    }

    /// Updates the overall line from the costs of completed stages, of all wanted stages, and of
    /// each running stage.
    pub fn remaining(
        &self,
        completed: f64,
        wanted: f64,
        running: impl Iterator<Item = (usize, f64)>,
    ) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        let partly: f64 = running
            .map(|(position, cost)| cost * self.fractions.get(&position).unwrap_or(&0.0))
            .sum();
        let left = time_left(self.started.elapsed(), completed + partly, wanted);
        terminal.overall.set_position(self.done as u64);
        terminal
            .overall
            .set_message(left.map_or(String::new(), |left| {
                format!("about {:#} left", HumanDuration(left))
            }));
    }

    /// Prints a line that stays above the moving ones. A closed standard error does not stop the
    /// computation.
    pub fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        let printed = match &self.terminal {
            Some(terminal) => terminal.multi.println(text),
            None => writeln!(std::io::stderr(), "{text}"),
        };
        let _ = printed;
    }

    /// Restores the terminal.
    pub fn clear(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.overall.finish_and_clear();
            let _ = terminal.multi.clear();
        }
    }
}

impl Terminal {
    fn new(total: usize, cached: usize) -> Self {
        let multi = MultiProgress::new();
        let overall = multi.add(ProgressBar::new(total as u64).with_position(cached as u64));
        overall.set_style(style("{bar:30} {pos}/{len} stages  {elapsed}  {msg}"));
        overall.enable_steady_tick(TICK);
        Self {
            multi,
            overall,
            lines: BTreeMap::new(),
        }
    }

    fn add(&mut self, position: usize, label: &str) {
        let line = self
            .multi
            .insert_before(&self.overall, ProgressBar::no_length());
        line.set_style(style("  {prefix}  {elapsed}  {wide_msg}"));
        line.set_prefix(label.to_owned());
        line.enable_steady_tick(TICK);
        self.lines.insert(position, line);
    }
}

/// A progress style from `template`; the default style if the template is invalid.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn progress_text(done: u64, total: u64, note: &str) -> String {
    match total {
        0 => format!("{done}  {note}"),
        _ => format!("{done}/{total}  {note}"),
    }
}

/// The time left if the remaining cost is worked off at the pace so far; `None` while too little is
/// known.
fn time_left(elapsed: Duration, completed: f64, wanted: f64) -> Option<Duration> {
    let seconds = elapsed.as_secs_f64() * (wanted - completed).max(0.0) / completed;
    (elapsed >= FIRST_ESTIMATE).then(|| Duration::try_from_secs_f64(seconds).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_the_pace_so_far() {
        let minute = Duration::from_secs(60);
        assert_eq!(time_left(minute, 1.0, 4.0), Some(3 * minute));
        assert_eq!(time_left(minute, 0.0, 4.0), None);
        assert_eq!(time_left(minute, 0.0, 0.0), None);
        assert_eq!(time_left(Duration::from_secs(1), 1.0, 4.0), None);
    }

    #[test]
    fn progress_without_a_total_shows_the_count() {
        assert_eq!(progress_text(7, 0, "loss 0.5"), "7  loss 0.5");
        assert_eq!(progress_text(7, 9, ""), "7/9  ");
    }
}
