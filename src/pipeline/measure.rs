//! What a stage costs: wall time, processor time and peak memory of its process, and the work it counted.

use serde::{Deserialize, Serialize};
use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What a stage has cost so far. It travels with the stage's checkpoints, so that an interrupted stage ends with the cost
/// of an uninterrupted one: what was lost between the last checkpoint and the interruption is not part of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub wall_seconds: f64,
    /// User and system time; `None` where the operating system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Largest resident set; `None` where the operating system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Tokens that went through a model.
    pub tokens: u64,
    /// Floating-point operations.
    pub flops: f64,
}

/// Measures the current process from its making on, on top of what earlier processes did.
pub(super) struct Meter {
    started: SystemTime,
    clock: Instant,
    cpu: Option<f64>,
    earlier: Cost,
    tokens: u64,
    flops: f64,
}

impl Meter {
    pub fn start() -> Self {
        let (started, clock, cpu) = (SystemTime::now(), Instant::now(), cpu_seconds());
        Self { started, clock, cpu, earlier: Cost::default(), tokens: 0, flops: 0.0 }
    }

    /// When it was made, RFC 3339 in UTC.
    pub fn started(&self) -> String {
        rfc3339(self.started)
    }

    pub fn add_tokens(&mut self, tokens: u64) {
        self.tokens += tokens;
    }

    /// An estimate that is not a number counts as nothing, since JSON cannot hold it.
    pub fn add_flops(&mut self, flops: f64) {
        if flops.is_finite() {
            self.flops += flops;
        }
    }

    /// Puts what follows on top of `earlier`.
    pub fn resume(&mut self, earlier: Cost) {
        self.earlier = earlier;
    }

    pub fn cost(&self) -> Cost {
        let cpu = cpu_seconds().zip(self.cpu).map(|(now, then)| (now - then).max(0.0));
        Cost {
            wall_seconds: self.earlier.wall_seconds + self.clock.elapsed().as_secs_f64(),
            cpu_seconds: cpu.map(|own| own + self.earlier.cpu_seconds.unwrap_or(0.0)),
            peak_memory_bytes: peak_memory_bytes().max(self.earlier.peak_memory_bytes),
            tokens: self.earlier.tokens + self.tokens,
            flops: self.earlier.flops + self.flops,
        }
    }
}

/// User plus system time of this process so far, all threads.
fn cpu_seconds() -> Option<f64> {
    parse_cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// Fields 14 and 15 of proc(5)'s `stat`, counted after the command's name, which may itself hold spaces and brackets.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    // Linux fixes the unit of these fields for user space at 1/100 s on every architecture we build for.
    const TICKS_PER_SECOND: f64 = 100.0;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// Largest resident set of this process so far (`VmHWM`).
fn peak_memory_bytes() -> Option<u64> {
    parse_peak_memory(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_peak_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// `2026-11-23T07:01:57Z`. The calendar is the usual count of days in eras of 400 Gregorian years that begin in March.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second_of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_command_name_with_brackets_does_not_confuse_the_fields() {
        let stat = "42 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0";
        assert_eq!(parse_cpu_seconds(stat), Some(2.0));
        assert_eq!(parse_cpu_seconds("42 (short) R 1"), None);
    }

    #[test]
    fn peak_memory_is_read_in_bytes() {
        assert_eq!(parse_peak_memory("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(parse_peak_memory("VmPeak:\t 9 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_resumed_cost_continues_the_earlier_one() {
        let earlier = Cost {
            wall_seconds: 100.0,
            cpu_seconds: Some(50.0),
            peak_memory_bytes: Some(1 << 50),
            tokens: 7,
            flops: 1.5,
        };
        let mut meter = Meter::start();
        assert!(meter.cost().peak_memory_bytes.unwrap() > 1 << 20);
        meter.add_tokens(3);
        meter.resume(earlier);
        meter.add_flops(0.5);
        meter.add_flops(f64::NAN);
        let cost = meter.cost();
        assert!((100.0..160.0).contains(&cost.wall_seconds) && cost.cpu_seconds.unwrap() >= 50.0, "{cost:?}");
        assert_eq!((cost.peak_memory_bytes, cost.tokens, cost.flops), (Some(1 << 50), 10, 2.0));
    }
}
