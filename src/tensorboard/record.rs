//! Records of a TFRecord file: length, checksum of the length, bytes, checksum of the bytes.

/// Appends a record with the bytes `data`.
pub fn append(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked(data).to_le_bytes());
}

/// The CRC-32C of `bytes`, rotated and shifted by a constant as the format asks for, since a
/// checksum of bytes that hold checksums would be weak.
fn masked(bytes: &[u8]) -> u32 {
    const SHIFT: u32 = 0xa282_ead8;
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of RFC 3720, B.4, before the mask.
    #[test]
    fn checksums_are_castagnolis_and_masked() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(
            masked(&[0; 32]),
            0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
    }

    #[test]
    fn a_record_is_sixteen_bytes_longer_than_its_data() {
        let mut file = vec![1];
        append(&mut file, b"abc");
        assert_eq!(file.len(), 1 + 16 + 3);
        assert_eq!(file[1..9], 3_u64.to_le_bytes());
        assert_eq!(&file[13..16], b"abc");
    }
}
