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
