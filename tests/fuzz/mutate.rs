//! Mutations of bytes: damage that file systems, editors and foreign programs cause, and damage
//! that nothing causes.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Texts that are difficult for parsers of any format.
const WORDS: [&[u8]; 40] = [
    b"",
    b"null",
    b"NaN",
    b"Infinity",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775807",
    b"1000000000000",
    b"0.1",
    b"true",
    b"[]",
    b"{}",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b"'",
    b",",
    b";",
    b":",
    b"\t",
    b"\n",
    b"\r\n",
    b"\0",
    b"\\",
    b"\\ud83d",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xff",
    b"\xf0\x9f\x99\x82",
    b"#",
    b"=",
    b"a",
    b" ",
    b"../../x",
    b"<html>",
    b"version https://git-lfs.github.com/spec/v1\n",
];

pub struct Mutator {
    rng: ChaCha8Rng,
    /// Words of the target's own format.
    words: &'static [&'static str],
}

impl Mutator {
    pub fn new(rng: ChaCha8Rng, words: &'static [&'static str]) -> Self {
        Self { rng, words }
    }

    /// A member of `corpus`, or half of the time one of its first `seeds`, changed in one to eight
    /// places.
    pub fn mutated(&mut self, corpus: &[Vec<u8>], seeds: usize) -> Vec<u8> {
        let from = if self.rng.random() {
            &corpus[..seeds]
        } else {
            corpus
        };
        let mut bytes = from.choose(&mut self.rng).cloned().unwrap_or_default();
        for _ in 0..1_usize << self.rng.random_range(0..4) {
            self.mutate(&mut bytes, corpus);
        }
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.rng.random_range(0..=bytes.len());
        let end = (at + self.length()).min(bytes.len());
        match self.rng.random_range(0..12) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = self.rng.random(),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = self.rng.random_range(0..=bytes.len());
                bytes.splice(to..to, part);
            }
            5 | 6 => drop(bytes.splice(at..at, self.word())),
            7 | 8 => drop(bytes.splice(at..end, self.word())),
            9 => {
                let Some(other) = corpus.choose(&mut self.rng) else {
                    return;
                };
                let from = self.rng.random_range(0..=other.len());
                let to = (from + self.length()).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            10 => self.change_number(bytes, at),
            // A little-endian integer, as in binary headers.
            _ => {
                let number = [
                    0,
                    1,
                    7,
                    u64::from(u32::MAX),
                    u64::MAX,
                    bytes.len() as u64,
                    self.rng.random(),
                ];
                let number = number
                    .choose(&mut self.rng)
                    .copied()
                    .unwrap_or_default()
                    .to_le_bytes();
                let width = *[1, 2, 4, 8].choose(&mut self.rng).unwrap_or(&8);
                let at = if self.rng.random() { 0 } else { at };
                bytes.splice(
                    at..(at + width).min(bytes.len()),
                    number[..width].iter().copied(),
                );
            }
        }
    }

    /// Replaces the digits at or after `at` by another number.
    fn change_number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(start) = (at..bytes.len()).find(|i| bytes[*i].is_ascii_digit()) else {
            return;
        };
        let end = (start..bytes.len())
            .find(|i| !bytes[*i].is_ascii_digit())
            .unwrap_or(bytes.len());
        let numbers = [
            "0",
            "1",
            "-1",
            "2",
            "3",
            "255",
            "65536",
            "4294967296",
            "1e30",
            "99999999999999999999",
            "0.5",
            "NaN",
        ];
        let number = numbers.choose(&mut self.rng).copied().unwrap_or_default();
        bytes.splice(start..end, number.bytes());
    }

    fn word(&mut self) -> Vec<u8> {
        if !self.words.is_empty() && self.rng.random() {
            return self
                .words
                .choose(&mut self.rng)
                .map(|word| word.as_bytes().to_vec())
                .unwrap_or_default();
        }
        WORDS
            .choose(&mut self.rng)
            .map(|word| word.to_vec())
            .unwrap_or_default()
    }

    /// A random length, usually short and sometimes long.
    fn length(&mut self) -> usize {
        1 << self.rng.random_range(0..10)
    }
}
