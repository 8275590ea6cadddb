//! Recognition of contents that differ from what their name says: compressed, in another encoding,
//! or the page or pointer that a download left in place of the file.

/// The kind of a file by its first bytes, and a way to get the wanted contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The kind, as in "FILE is …".
    pub what: &'static str,
    pub remedy: &'static str,
}

const fn foreign(what: &'static str, remedy: &'static str) -> Foreign {
    Foreign { what, remedy }
}

const UNPACK: &str = "unpack it and give the file inside";
const EXPORT: &str = "write its rows as .jsonl, .json, .csv or .parquet";

/// The first bytes of known kinds of files; if one begins with another, the longer comes first.
const BEGINNINGS: &[(&[u8], Foreign)] = &[
    (
        b"\xff\xfe\0\0",
        foreign(
            "in UTF-32",
            "convert it: iconv -f UTF-32 -t UTF-8 OLD > NEW",
        ),
    ),
    (
        b"\0\0\xfe\xff",
        foreign(
            "in UTF-32",
            "convert it: iconv -f UTF-32 -t UTF-8 OLD > NEW",
        ),
    ),
    (
        b"\xff\xfe",
        foreign(
            "in UTF-16",
            "convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW",
        ),
    ),
    (
        b"\xfe\xff",
        foreign(
            "in UTF-16",
            "convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW",
        ),
    ),
    (
        b"\x1f\x8b",
        foreign("compressed with gzip", "decompress it: gzip -d < OLD > NEW"),
    ),
    (
        b"\x28\xb5\x2f\xfd",
        foreign("compressed with zstd", "decompress it: zstd -d < OLD > NEW"),
    ),
    (
        b"\xfd7zXZ\0",
        foreign("compressed with xz", "decompress it: xz -d < OLD > NEW"),
    ),
    (
        b"BZh",
        foreign(
            "compressed with bzip2",
            "decompress it: bzip2 -d < OLD > NEW",
        ),
    ),
    (
        b"\x04\x22\x4d\x18",
        foreign("compressed with lz4", "decompress it: lz4 -d < OLD > NEW"),
    ),
    (
        b"PK\x03\x04",
        foreign("a zip archive (a spreadsheet, perhaps)", UNPACK),
    ),
    (b"PK\x05\x06", foreign("an empty zip archive", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", foreign("a 7z archive", UNPACK)),
    (b"Rar!", foreign("a rar archive", UNPACK)),
    (
        b"PARE",
        foreign("an encrypted parquet file", "write it without encryption"),
    ),
    (b"ARROW1", foreign("an Arrow file", EXPORT)),
    (b"\xff\xff\xff\xff", foreign("an Arrow stream", EXPORT)),
    (b"FEA1", foreign("a Feather file", EXPORT)),
    (b"Obj\x01", foreign("an Avro file", EXPORT)),
    (b"SQLite format 3\0", foreign("an SQLite database", EXPORT)),
    (b"\x89HDF", foreign("an HDF5 file", EXPORT)),
    (b"\x80\x02", foreign("a pickle", EXPORT)),
    (b"\x80\x03", foreign("a pickle", EXPORT)),
    (b"\x80\x04", foreign("a pickle", EXPORT)),
    (b"\x80\x05", foreign("a pickle", EXPORT)),
    (
        b"\xd0\xcf\x11\xe0",
        foreign("an old Office document", EXPORT),
    ),
    (b"%PDF-", foreign("a PDF document", EXPORT)),
];

const LFS: Foreign = foreign(
    "a git-lfs pointer: the file itself was not downloaded",
    "run `git lfs pull` in its repository, or download the file itself",
);
const PAGE: Foreign = foreign(
    "a web page: what was downloaded is a server's answer, not the file",
    "open it to see the answer, then download the file again (from a hub: the address with /resolve/)",
);
const XML: Foreign = foreign(
    "XML (a server's error, perhaps)",
    "open it to see, then download the file again",
);
const UTF_16: Foreign = foreign(
    "in UTF-16",
    "convert it: iconv -f UTF-16LE -t UTF-8 OLD > NEW (or UTF-16BE)",
);
const ZEROS: Foreign = foreign(
    "not text: it begins with zero bytes",
    "the file is damaged: fetch or write it again",
);

/// The first bytes of a parquet file.
pub const PARQUET: &[u8] = b"PAR1";

/// The number of bytes at the beginning of a file that [`recognise`] needs.
pub const HEAD: usize = 1024;

/// The kind of a file with these first bytes; `None` for text and parquet.
pub fn recognise(head: &[u8]) -> Option<Foreign> {
    if let Some((_, foreign)) = BEGINNINGS
        .iter()
        .find(|(beginning, _)| head.starts_with(beginning))
    {
        return Some(*foreign);
    }
    let tar = foreign("a tar archive", UNPACK);
    if head.get(257..262) == Some(b"ustar") {
        return Some(tar);
    }
    let text = head
        .strip_prefix("\u{feff}".as_bytes())
        .unwrap_or(head)
        .trim_ascii_start();
    let begins = |word: &str| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    if text.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Some(LFS);
    }
    if begins("<!doctype html")
        || begins("<html")
        || begins("<head")
        || begins("<body")
        || begins("<!--")
    {
        return Some(PAGE);
    }
    if begins("<?xml") {
        return Some(XML);
    }
    match head {
        [0, 0, ..] => Some(ZEROS),
        // In UTF-16, one byte of two is zero for Latin letters.
        [0, other, ..] | [other, 0, ..] if *other != 0 => Some(UTF_16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_really_is_shows_in_its_first_bytes() {
        let utf_16 = |text: &str| {
            text.encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>()
        };
        let mut tar = vec![b'a'; 257];
        tar.extend(b"ustar\0");
        for (head, what) in [
            (&b"\x1f\x8b\x08"[..], "gzip"),
            (b"\x28\xb5\x2f\xfd\x04", "zstd"),
            (b"PK\x03\x04", "zip"),
            (b"ARROW1\0\0", "Arrow"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
                "git-lfs",
            ),
            (b"\n <!DOCTYPE HTML>", "web page"),
            (b"\xef\xbb\xbf<html lang=en>", "web page"),
            (&[&b"\xff\xfe"[..], &utf_16("{\"a\"")].concat(), "UTF-16"),
            (b"\xff\xfe\0\0{\0\0\0", "UTF-32"),
            (&utf_16("id,post"), "UTF-16"),
            (&tar, "tar"),
        ] {
            let found = recognise(head).unwrap_or_else(|| panic!("{what} was not recognised"));
            assert!(found.what.contains(what), "{what}: {found:?}");
        }
        for head in [
            &b"{\"a\": 1}"[..],
            b"",
            b"\xef\xbb\xbf{}",
            b"id,post\n",
            b"PAR1\x15",
            b"<3,id\n",
            b"[1]",
        ] {
            assert_eq!(recognise(head), None, "{head:?}");
        }
    }
}
