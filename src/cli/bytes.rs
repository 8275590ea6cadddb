//! An amount of memory or disk, as people write it.

use bytesize::ByteSize;
use std::str::FromStr;

/// A number of bytes: `16GiB`, `5GB`, `512MiB`, or without a unit. Units are of 1000 (KB, MB, …) or
/// of 1024 (KiB, MiB, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse::<ByteSize>() {
            // A value too large for the number type becomes its largest value.
            Ok(ByteSize(bytes)) if bytes > 0 && bytes < u64::MAX => Ok(Self(bytes)),
            _ => Err(format!(
                "`{text}` is not an amount of memory; write it as 16GiB, 5GB or 512MiB"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_of_a_thousand_or_of_1024() {
        let read = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        for (text, bytes) in [
            ("5GB", 5_000_000_000),
            ("24KB", 24_000),
            ("1 MiB", 1 << 20),
            ("7", 7),
            ("1.5gib", 3 << 29),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(read(text), Ok(bytes), "{text}");
        }
        let wrong = [
            "",
            "GB",
            "0MB",
            "0.4",
            "-1GiB",
            "3 apples",
            "1.2.3GiB",
            "nan",
            "inf",
            "99999999999999999999GB",
            "١GiB",
        ];
        for wrong in wrong {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
