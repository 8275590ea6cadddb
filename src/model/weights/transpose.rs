//! Transposition: linear weights are `[out, in]` on disk and `[in, out]` in memory.

use rayon::prelude::*;

/// The least number of values for which other threads are asked.
const LARGE: usize = 1 << 20;

/// Transposes a row-major `[rows, columns]` matrix.
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut matrix = Transposing::new(rows, columns);
    matrix.place(values, rows);
    matrix.done
}

/// A row-major matrix of which pieces come one after another, as its transpose.
pub(super) struct Transposing {
    rows: usize,
    columns: usize,
    /// `[columns, rows]`
    done: Vec<f32>,
    /// Number of rows in `done`.
    placed: usize,
    /// Values of the rows that follow.
    waiting: Vec<f32>,
}

impl Transposing {
    /// Rows that are placed together, unless the matrix has fewer.
    const TOGETHER: usize = 256;

    pub(super) fn new(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            done: vec![0.0; rows * columns],
            placed: 0,
            waiting: Vec::new(),
        }
    }

    /// Takes the next values.
    pub(super) fn hear(&mut self, values: &[f32]) {
        self.waiting.extend_from_slice(values);
        let whole = self.waiting.len() / self.columns.max(1);
        if whole >= Self::TOGETHER || self.placed + whole == self.rows {
            let mut waiting = std::mem::take(&mut self.waiting);
            self.place(&waiting, whole);
            waiting.drain(..whole * self.columns);
            self.waiting = waiting;
        }
    }

    /// The transpose; rows that never came are zero.
    pub(super) fn finish(self) -> Vec<f32> {
        self.done
    }

    /// Places the next `count` rows, which `values` begins with.
    fn place(&mut self, values: &[f32], count: usize) {
        /// Rows and columns of a part that stays in the processor's nearest cache.
        const TILE: usize = 32;
        let (rows, columns, first) = (self.rows, self.columns, self.placed);
        if self.done.is_empty() {
            return;
        }
        // Columns from `index · TILE` on, which become the rows `part`.
        let fill = |(index, part): (usize, &mut [f32])| {
            for start in (0..count).step_by(TILE) {
                let end = count.min(start + TILE);
                for (column, to) in part.chunks_exact_mut(rows).enumerate() {
                    let from = &values[start * columns + index * TILE + column..];
                    let to = &mut to[first + start..first + end];
                    for (to, from) in to.iter_mut().zip(from.iter().step_by(columns)) {
                        *to = *from;
                    }
                }
            }
        };
        match count * columns < LARGE {
            true => self.done.chunks_mut(TILE * rows).enumerate().for_each(fill),
            false => self
                .done
                .par_chunks_mut(TILE * rows)
                .enumerate()
                .for_each(fill),
        }
        self.placed += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|value| value as f32).collect()
    }

    #[test]
    fn a_value_goes_to_its_own_place() {
        for (rows, columns) in [(0, 3), (3, 0), (1, 1), (7, 65), (33, 32), (1100, 1030)] {
            let values = matrix(rows, columns);
            let turned = transposed(&values, rows, columns);
            let right = |(place, value): (usize, &f32)| {
                *value == values[place % rows * columns + place / rows]
            };
            assert_eq!(turned.len(), rows * columns);
            assert!(turned.iter().enumerate().all(right), "{rows} × {columns}");
            assert_eq!(transposed(&turned, columns, rows), values);
        }
    }

    #[test]
    fn pieces_of_any_length_give_what_the_whole_gives() {
        for (rows, columns) in [(700, 3), (5, 40), (300, 7), (1, 9)] {
            let values = matrix(rows, columns);
            for piece in [1, 2, 64, 1000, rows * columns] {
                let mut turning = Transposing::new(rows, columns);
                values.chunks(piece).for_each(|part| turning.hear(part));
                assert_eq!(turning.finish(), transposed(&values, rows, columns));
            }
        }
    }
}
