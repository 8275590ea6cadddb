//! Measurement of a stage's cost: wall time, processor time and peak memory of its process, and the
//! work it counted.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use std::time::{Instant, SystemTime};

/// The cost of a stage so far. It is stored with the stage's checkpoints, so that an interrupted
/// stage ends with the cost of an uninterrupted one: work lost between the last checkpoint and the
/// interruption is not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub wall_seconds: f64,
    /// User and system time; `None` where the operating system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Largest resident set; `None` where the operating system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Tokens that passed through a model.
    pub tokens: u64,
    /// Floating-point operations.
    pub flops: f64,
}

/// A meter of the current process's cost since the meter was created, added to that of earlier
/// processes.
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
        Self {
            started,
            clock,
            cpu,
            earlier: Cost::default(),
            tokens: 0,
            flops: 0.0,
        }
    }

    /// Time at which the meter was created, RFC 3339 in UTC.
    pub fn started(&self) -> String {
        DateTime::<Utc>::from(self.started).to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    pub fn add_tokens(&mut self, tokens: u64) {
        self.tokens += tokens;
    }

    /// Adds operations. An estimate that is not finite is ignored, since JSON cannot hold it.
    pub fn add_flops(&mut self, flops: f64) {
        if flops.is_finite() {
            self.flops += flops;
        }
    }

    /// Adds everything measured from now on to `earlier`.
    pub fn resume(&mut self, earlier: Cost) {
        self.earlier = earlier;
    }

    pub fn cost(&self) -> Cost {
        let cpu = cpu_seconds()
            .zip(self.cpu)
            .map(|(now, then)| (now - then).max(0.0));
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
#[cfg(target_os = "linux")]
fn cpu_seconds() -> Option<f64> {
    let stat = procfs::process::Process::myself()
        .and_then(|process| process.stat())
        .ok()?;
    Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// Largest resident set of this process so far.
#[cfg(target_os = "linux")]
fn peak_memory_bytes() -> Option<u64> {
    let status = procfs::process::Process::myself()
        .and_then(|process| process.status())
        .ok()?;
    status.vmhwm.map(|kilobytes| kilobytes * 1024)
}

#[cfg(not(target_os = "linux"))]
fn cpu_seconds() -> Option<f64> {
    None
}

#[cfg(not(target_os = "linux"))]
fn peak_memory_bytes() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_in_whole_seconds() {
        let started = Meter::start().started();
        let read = DateTime::parse_from_rfc3339(&started).unwrap();
        let passed = SystemTime::now().duration_since(read.into()).unwrap();
        assert!(passed.as_secs() < 60, "{started}");
        assert_eq!(
            (started.len(), started.ends_with('Z')),
            ("2026-11-23T07:01:57Z".len(), true),
            "{started}"
        );
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
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        while meter.cost().cpu_seconds.unwrap() == 0.0 {
            assert!(Instant::now() < deadline, "work takes no time");
        }
        meter.add_tokens(3);
        meter.resume(earlier);
        meter.add_flops(0.5);
        meter.add_flops(f64::NAN);
        let cost = meter.cost();
        assert!(
            (100.0..160.0).contains(&cost.wall_seconds) && cost.cpu_seconds.unwrap() >= 50.0,
            "{cost:?}"
        );
        assert_eq!(
            (cost.peak_memory_bytes, cost.tokens, cost.flops),
            (Some(1 << 50), 10, 2.0)
        );
    }
}
