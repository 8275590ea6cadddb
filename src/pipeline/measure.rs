//! What a stage costs: wall time, processor time and peak memory of its process.

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A stopwatch over the current process.
pub(super) struct Stopwatch {
    started: SystemTime,
    clock: Instant,
    cpu: Option<f64>,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { started: SystemTime::now(), clock: Instant::now(), cpu: cpu_seconds() }
    }

    pub fn started(&self) -> String {
        rfc3339(self.started)
    }

    pub fn wall_seconds(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    pub fn cpu_seconds(&self) -> Option<f64> {
        Some((cpu_seconds()? - self.cpu?).max(0.0))
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
pub(super) fn peak_memory_bytes() -> Option<u64> {
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
    fn this_process_has_used_memory_and_time_does_not_run_backwards() {
        assert!(peak_memory_bytes().unwrap() > 1 << 20);
        assert!(Stopwatch::start().cpu_seconds().unwrap() >= 0.0);
    }
}
