//! Checksums that a hub announces for a file's bytes, and their verification.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek};

/// The number of bytes read at a time.
const BLOCK: usize = 1 << 20;

/// The checksum that a file's etag announces: SHA-256 of the bytes for large files, git's blob hash
/// for small ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    Sha256(String),
    /// The SHA-1 of `blob <length>\0` and the bytes.
    GitBlob(String),
}

impl Checksum {
    /// The checksum in `etag`; `None` if it holds something else, since mirrors may use any name.
    pub fn announced(etag: &str) -> Option<Self> {
        let sum = etag.to_ascii_lowercase();
        match etag.len() {
            _ if !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) => None,
            64 => Some(Self::Sha256(sum)),
            40 => Some(Self::GitBlob(sum)),
            _ => None,
        }
    }

    pub fn expected(&self) -> &str {
        match self {
            Self::Sha256(sum) | Self::GitBlob(sum) => sum,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git's SHA-1",
        }
    }

    /// The actual checksum of the whole `file`.
    pub fn of(&self, file: &mut File) -> io::Result<String> {
        match self {
            Self::Sha256(_) => digest(Sha256::new(), file),
            Self::GitBlob(_) => {
                let length = file.metadata()?.len();
                digest(Sha1::new_with_prefix(format!("blob {length}\0")), file)
            }
        }
    }
}

fn digest(mut hasher: impl Digest, file: &mut File) -> io::Result<String> {
    let mut block = vec![0; BLOCK];
    file.rewind()?;
    loop {
        match file.read(&mut block)? {
            0 => {
                return Ok(hasher
                    .finalize()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect());
            }
            length => hasher.update(&block[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Expected values are from `printf 'hello\n' | sha256sum` and `printf 'hello\n' | git
    /// hash-object --stdin`.
    const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    #[test]
    fn both_sums_are_those_of_sha256sum_and_git() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello\n").unwrap();
        for sum in [SHA256, GIT] {
            let checksum = Checksum::announced(sum).unwrap();
            assert_eq!(checksum.of(&mut file).unwrap(), checksum.expected());
            assert_eq!(Checksum::announced(&sum.to_uppercase()), Some(checksum));
        }
    }

    #[test]
    fn other_names_are_no_sums() {
        for etag in [
            "",
            "main",
            &GIT[1..],
            &format!("{SHA256}-5"),
            &SHA256.replace('5', "g"),
        ] {
            assert_eq!(Checksum::announced(etag), None);
        }
    }
}
