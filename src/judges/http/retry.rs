//! Retries: the number of tries, and the pauses between them.

use super::failure::Failure;
use chrono::{DateTime, NaiveDateTime, Utc};
use std::time::{Duration, SystemTime};

/// The number of tries of a request and the lengths of the pauses between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The most tries, the first included.
    pub tries: u32,
    /// The pause after the first failure; each is twice as long as the one before.
    pub first_pause: Duration,
    /// The longest pause between tries if the server asks for none.
    pub longest_pause: Duration,
    /// The longest pause that a server may ask for; a longer one ends the request.
    pub longest_asked: Duration,
    /// The time in which a whole answer must come.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 8,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            longest_asked: Duration::from_secs(120),
            timeout: Duration::from_secs(600),
        }
    }
}

impl Patience {
    /// The pause before the next try after `failures` failures, of which `failure` is the last;
    /// `None` if there is no next try. `jitter`, from 0 to 1, shortens the pause by up to a half,
    /// unless the server asks for it.
    pub fn pause(&self, failure: &Failure, failures: u32, jitter: f64) -> Option<Duration> {
        if !failure.may_pass() || failures >= self.tries {
            return None;
        }
        if let Some(after) = failure.after {
            return (after <= self.longest_asked).then_some(after);
        }
        let doubled = self.first_pause.as_secs_f64() * 2_f64.powi(failures.min(60) as i32 - 1);
        let longest = doubled.min(self.longest_pause.as_secs_f64());
        Some(Duration::from_secs_f64(longest * (1.0 - jitter / 2.0)))
    }
}

/// The pause that the header `Retry-After` asks for, from now: a number of seconds, or a date in
/// one of the three forms of HTTP. `None` if it is neither.
#[cfg_attr(
    not(feature = "http"),
    allow(dead_code, reason = "only a client reads headers")
)]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = date(value)?;
    let wait = at - DateTime::<Utc>::from(now);
    // A date that has passed asks for no pause.
    Some(wait.to_std().unwrap_or_default())
}

fn date(value: &str) -> Option<DateTime<Utc>> {
    if let Ok(date) = DateTime::parse_from_rfc2822(value) {
        return Some(date.to_utc());
    }
    let obsolete = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let parsed = obsolete
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(value, form).ok());
    parsed.map(|date| date.and_utc())
}

#[cfg(test)]
mod tests {
    use super::super::failure::FailureKind;
    use super::*;

    fn millis(pause: Option<Duration>) -> Option<u128> {
        pause.map(|pause| pause.as_millis())
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_halves_them_at_most() {
        let patience = Patience {
            tries: 20,
            ..Patience::default()
        };
        let down = Failure::new(FailureKind::Down, "");
        let pause = |failures, jitter| millis(patience.pause(&down, failures, jitter));
        assert_eq!(
            [1, 2, 3, 9, 10, 19].map(|failures| pause(failures, 0.0)),
            [100, 200, 400, 25_600, 30_000, 30_000].map(Some)
        );
        assert_eq!((pause(3, 0.5), pause(3, 1.0)), (Some(300), Some(200)));
        assert_eq!(pause(20, 0.0), None);
    }

    #[test]
    fn a_servers_wish_is_kept_up_to_a_limit() {
        let patience = Patience::default();
        let asked = |seconds| Failure {
            after: Some(Duration::from_secs(seconds)),
            ..Failure::new(FailureKind::Busy, "")
        };
        assert_eq!(millis(patience.pause(&asked(7), 1, 1.0)), Some(7_000));
        assert_eq!(millis(patience.pause(&asked(0), 1, 1.0)), Some(0));
        assert_eq!(millis(patience.pause(&asked(121), 1, 0.0)), None);
        let refused = Failure::new(FailureKind::Refused, "");
        assert_eq!(patience.pause(&refused, 1, 0.0), None);
    }

    #[test]
    fn the_header_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let seconds = |value| retry_after(value, now).map(|wait| wait.as_secs_f64());
        // The same moment in the three forms of RFC 9110, section 5.6.7.
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(seconds(date), Some(30.0), "{date}");
        }
        assert_eq!(seconds("Sun, 06 Nov 1994 08:40:00 GMT"), Some(0.0));
        assert_eq!((seconds("12"), seconds(" 0.5 ")), (Some(12.0), Some(0.5)));
        for value in ["", "soon", "-1", "inf", "NaN", "1e300"] {
            assert_eq!(seconds(value), None, "{value}");
        }
    }
}
