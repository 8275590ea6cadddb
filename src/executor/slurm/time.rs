//! Time limits as Slurm writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A time limit in one of Slurm's formats: minutes, minutes:seconds, hours:minutes:seconds,
/// days-hours, days-hours:minutes or days-hours:minutes:seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit(pub Duration);

impl FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a time limit; write it as Slurm does: 90 (minutes), 4:00:00 or 2-12:00:00"
            )
        };
        let (days, rest) = match text.trim().split_once('-') {
            Some((days, rest)) => (Some(days), rest),
            None => (None, text.trim()),
        };
        let numbers: Option<Vec<u64>> = rest
            .split(':')
            .map(|part| part.parse::<u32>().ok().map(u64::from))
            .collect();
        let numbers = numbers.ok_or_else(wrong)?;
        let (days, [hours, minutes, seconds]) = match (days, numbers.as_slice()) {
            (None, &[minutes]) => (0, [0, minutes, 0]),
            (None, &[minutes, seconds]) => (0, [0, minutes, seconds]),
            (None, &[hours, minutes, seconds]) => (0, [hours, minutes, seconds]),
            (Some(days), &[hours, ref rest @ ..]) if rest.len() <= 2 => (
                days.parse::<u32>().map_err(|_| wrong())?.into(),
                [
                    hours,
                    rest.first().copied().unwrap_or(0),
                    rest.get(1).copied().unwrap_or(0),
                ],
            ),
            _ => return Err(wrong()),
        };
        let seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
        if seconds == 0 {
            return Err(wrong());
        }
        Ok(Self(Duration::from_secs(seconds)))
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let all = self.0.as_secs();
        let (days, hours) = (all / 86_400, all / 3600 % 24);
        if days > 0 {
            write!(out, "{days}-")?;
        }
        write!(out, "{hours:02}:{:02}:{:02}", all / 60 % 60, all % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_of_slurm_is_read_and_written_in_one() {
        for (text, written) in [
            ("90", "01:30:00"),
            ("2:30", "00:02:30"),
            ("4:00:00", "04:00:00"),
            ("30:00:00", "1-06:00:00"),
            ("2-12", "2-12:00:00"),
            ("2-12:30", "2-12:30:00"),
            ("2-12:30:15", "2-12:30:15"),
        ] {
            let limit: TimeLimit = text.parse().unwrap();
            assert_eq!(limit.to_string(), written, "{text}");
            assert_eq!(limit.to_string().parse(), Ok(limit));
        }
        for text in ["", "0", "4h", "1:2:3:4", "-1", "1-", "1-2:3:4:5"] {
            assert!(text.parse::<TimeLimit>().is_err(), "{text}");
        }
    }
}
