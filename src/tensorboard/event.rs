//! Events as TensorBoard's protocol buffers have them (`event.proto`, `summary.proto`): the few
//! fields that a scalar needs.

/// The first event of every file.
pub const FILE_VERSION: &str = "brain.Event:2";

pub struct Event<'a> {
    /// Seconds since 1970.
    pub wall_time: f64,
    pub step: i64,
    pub what: What<'a>,
}

pub enum What<'a> {
    Version(&'a str),
    Scalar { name: &'a str, value: f64 },
}

/// Wire types of protocol buffers.
const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED_32: u8 = 5;

impl Event<'_> {
    pub fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        tag(&mut bytes, 1, FIXED_64);
        bytes.extend(self.wall_time.to_le_bytes());
        // A field that is 0 is left out, and a negative number takes ten bytes, as the protocol has it.
        if self.step != 0 {
            tag(&mut bytes, 2, VARINT);
            varint(&mut bytes, self.step as u64);
        }
        match self.what {
            What::Version(version) => delimited(&mut bytes, 3, version.as_bytes()),
            What::Scalar { name, value } => {
                let mut scalar = Vec::new();
                delimited(&mut scalar, 1, name.as_bytes());
                tag(&mut scalar, 2, FIXED_32);
                scalar.extend((value as f32).to_le_bytes());
                let mut summary = Vec::new();
                delimited(&mut summary, 1, &scalar);
                delimited(&mut bytes, 5, &summary);
            }
        }
        bytes
    }
}

fn tag(bytes: &mut Vec<u8>, field: u8, wire: u8) {
    bytes.push(field << 3 | wire);
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn delimited(bytes: &mut Vec<u8>, field: u8, data: &[u8]) {
    tag(bytes, field, LENGTH);
    varint(bytes, data.len() as u64);
    bytes.extend(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let of = |number| {
            let mut bytes = Vec::new();
            varint(&mut bytes, number);
            bytes
        };
        assert_eq!(of(0), [0]);
        assert_eq!(of(300), [0xac, 0x02]);
        assert_eq!(of(-1_i64 as u64).len(), 10);
    }

    #[test]
    fn a_scalar_is_a_value_in_a_summary_in_an_event() {
        let event = Event {
            wall_time: 1.0,
            step: 2,
            what: What::Scalar {
                name: "a",
                value: 0.5,
            },
        };
        let expected = [
            &[0x09][..],
            &1.0_f64.to_le_bytes(),
            &[0x10, 2, 0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15],
            &0.5_f32.to_le_bytes(),
        ];
        assert_eq!(event.encoded(), expected.concat());
    }
}
