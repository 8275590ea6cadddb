//! An amount of memory or disk, as people write it.

use std::str::FromStr;

/// A number of bytes: `16GiB`, `5GB`, `512MiB`, or without a unit. Units are of 1000 (KB, MB, GB) or of 1024 (KiB, MiB, GiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()));
        let bytes = number.parse::<f64>().ok().zip(unit).map(|(number, (_, unit))| number * *unit as f64);
        match bytes {
            Some(bytes) if bytes >= 1.0 && bytes < u64::MAX as f64 => Ok(Self(bytes as u64)),
            _ => Err(format!("`{text}` is no number of bytes; write 16GiB, 5GB or 512MiB")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_of_a_thousand_or_of_1024() {
        let read = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        for (text, bytes) in
            [("5GB", 5_000_000_000), ("24KB", 24_000), ("1 MiB", 1 << 20), ("7", 7), ("1.5gib", 3 << 29)]
        {
            assert_eq!(read(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "GB", "0MB", "0.4", "-1GiB", "5TB", "3 apples", "1.2.3GiB", "99999999999999999999GB"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
