//! A batch of (prompt, response) rows as tensors. One layout for training, scoring and generation:
//!
//! ```text
//! row:   [ pad … pad | prompt | response | pad … pad ]
//! column: 0            ↑ up to prompt_width   ↑ prompt_width … prompt_width + response_width
//! ```
//!
//! Prompts end and responses begin at the same column in every row, so the tokens that predict a
//! response are one slice. The attention mask and the positions are explicit; nothing is inferred
//! from token ids, and PAD is never EOS.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// Token ids of one prompt and its response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    pub prompt: Vec<u32>,
    /// Token ids of the response, including the end-of-sequence token if the response ended.
    pub response: Vec<u32>,
}

impl Sequence {
    pub fn new(prompt: Vec<u32>, response: Vec<u32>) -> Self {
        Self { prompt, response }
    }

    pub fn len(&self) -> usize {
        self.prompt.len() + self.response.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Two responses to one prompt, the first preferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub chosen: Sequence,
    pub rejected: Sequence,
}

/// Largest number of rows that are read together, without gradients.
const MOST_ROWS_READ: usize = 64;
/// Width up to which so many rows are read together; the weights of attention grow with the square
/// of the width.
const WIDTH_OF_MOST_ROWS: usize = 1024;

/// Number of rows of `width` tokens that are read together, without gradients.
pub fn rows_read_together(width: usize) -> usize {
    let allowed = MOST_ROWS_READ * WIDTH_OF_MOST_ROWS.pow(2) / width.max(1).pow(2);
    allowed.clamp(1, MOST_ROWS_READ)
}

/// `sequences` in consecutive parts that are read together. The parts depend on the lengths alone.
pub fn read_together<'a, 's>(
    sequences: &'a [&'s Sequence],
) -> impl Iterator<Item = &'a [&'s Sequence]> {
    let mut left = sequences;
    std::iter::from_fn(move || {
        let (mut prompt, mut response) = (0, 0);
        let fits = |(index, row): &(usize, &&Sequence)| {
            prompt = prompt.max(row.prompt.len());
            response = response.max(row.response.len());
            *index < rows_read_together(prompt + response)
        };
        let count = left.iter().enumerate().take_while(fits).count();
        let (part, rest) = left.split_at(count);
        left = rest;
        (count > 0).then_some(part)
    })
}

/// `b` rows of `t = prompt_width + response_width` tokens.
#[derive(Clone, Debug)]
pub struct Batch {
    pub prompt_width: usize,
    pub response_width: usize,
    /// Response tokens per row.
    pub response_lengths: Vec<usize>,
    /// Real (unpadded) tokens in all rows.
    pub token_count: usize,
    /// Token ids, `[b, t]`; padding holds id 0 and is masked.
    pub ids: Tensor<2, Int>,
    /// True where a token is real, `[b, t]`.
    pub mask: Tensor<2, Bool>,
    /// Position of every token within its own row, counted from its first real token, `b·t` values.
    pub positions: Vec<u32>,
    /// Response token ids, `[b, response_width]`; padding holds id 0.
    pub targets: Tensor<2, Int>,
    /// 1 where a response token is real, else 0, `[b, response_width]`.
    pub response_mask: Tensor<2>,
}

impl Batch {
    /// The smallest batch that holds `rows`.
    pub fn new<'a>(rows: impl IntoIterator<Item = &'a Sequence>, device: &Device) -> Self {
        let rows: Vec<&Sequence> = rows.into_iter().collect();
        let prompt_width = rows.iter().map(|r| r.prompt.len()).max().unwrap_or(0);
        let response_width = rows.iter().map(|r| r.response.len()).max().unwrap_or(0);
        Self::with_widths(&rows, prompt_width, response_width, device)
    }

    /// `rows` padded to the given widths, which must hold the longest prompt and response.
    pub fn with_widths(
        rows: &[&Sequence],
        prompt_width: usize,
        response_width: usize,
        device: &Device,
    ) -> Self {
        let (b, t) = (rows.len(), prompt_width + response_width);
        let mut ids = vec![0i32; b * t];
        let mut mask = vec![false; b * t];
        let mut positions = vec![0u32; b * t];
        let mut targets = vec![0i32; b * response_width];
        let mut response_mask = vec![0f32; b * response_width];
        for (row, sequence) in rows.iter().enumerate() {
            let start = row * t + prompt_width - sequence.prompt.len();
            for (offset, &token) in sequence.prompt.iter().chain(&sequence.response).enumerate() {
                ids[start + offset] = token as i32;
                mask[start + offset] = true;
                positions[start + offset] = offset as u32;
            }
            for (offset, &token) in sequence.response.iter().enumerate() {
                targets[row * response_width + offset] = token as i32;
                response_mask[row * response_width + offset] = 1.0;
            }
        }
        Self {
            prompt_width,
            response_width,
            response_lengths: rows.iter().map(|r| r.response.len()).collect(),
            token_count: rows.iter().map(|r| r.len()).sum(),
            ids: Tensor::from_data(TensorData::new(ids, [b, t]), device),
            mask: Tensor::from_data(TensorData::new(mask, [b, t]), device),
            positions,
            targets: Tensor::from_data(TensorData::new(targets, [b, response_width]), device),
            response_mask: Tensor::from_data(
                TensorData::new(response_mask, [b, response_width]),
                device,
            ),
        }
    }

    pub fn rows(&self) -> usize {
        self.response_lengths.len()
    }

    pub fn width(&self) -> usize {
        self.prompt_width + self.response_width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_rows_are_read_in_smaller_parts_and_none_is_lost() {
        assert_eq!(
            [1, 565, 1024, 2048, 4096, 32768].map(rows_read_together),
            [64, 64, 64, 16, 4, 1]
        );
        let row =
            |prompt: usize, response: usize| Sequence::new(vec![1; prompt], vec![2; response]);
        let narrow: Vec<Sequence> = (0..130).map(|_| row(48, 30)).collect();
        let mixed = [row(8, 8), row(1024, 1024), row(2048, 2048), row(40_000, 1)];
        let parts = |rows: &[Sequence]| -> Vec<usize> {
            let rows: Vec<&Sequence> = rows.iter().collect();
            read_together(&rows).map(<[_]>::len).collect()
        };
        assert_eq!(parts(&narrow), [64, 64, 2]);
        // The fourth alone is wider than a part of three rows may be.
        assert_eq!(parts(&mixed), [3, 1]);
        assert!(parts(&[]).is_empty());
    }
}
