//! Angles of rotary position embeddings.

use crate::device::fused::Rotary;
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::{Arc, Mutex, PoisonError};

/// Cosines and sines of every position's angles, computed once for as many positions as a model's
/// passes need. Clones of a model share them.
#[derive(Clone, Debug)]
pub struct Angles {
    /// Radians by which each pair turns from one position to the next.
    frequencies: Arc<[f64]>,
    table: Arc<Mutex<Arc<Table>>>,
}

/// Cosines and sines `[positions, pairs]`, row by row.
#[derive(Debug, Default)]
struct Table {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    pub fn new(frequencies: &[f64]) -> Self {
        Self {
            frequencies: frequencies.into(),
            table: Arc::default(),
        }
    }

    /// Cosines and sines at `positions`, those of `rows` rows side by side, `[rows, t, pairs]`.
    pub fn at(&self, positions: &[u32], rows: usize, device: &Device) -> Rotary {
        let pairs = self.frequencies.len();
        let farthest = positions.iter().max().map_or(0, |p| *p as usize + 1);
        let table = self.covering(farthest);
        let gather = |from: &[f32]| {
            let mut values = Vec::with_capacity(positions.len() * pairs);
            for &position in positions {
                let start = position as usize * pairs;
                values.extend_from_slice(&from[start..start + pairs]);
            }
            let shape = [rows, positions.len() / rows.max(1), pairs];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Rotary {
            cos: gather(&table.cos),
            sin: gather(&table.sin),
        }
    }

    /// The table of at least `positions` positions.
    fn covering(&self, positions: usize) -> Arc<Table> {
        // A table is replaced whole, so that one left by a panic elsewhere is as good as any.
        let mut shared = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let size = positions * self.frequencies.len();
        if shared.cos.len() < size {
            let angles =
                || (0..positions).flat_map(|p| self.frequencies.iter().map(move |f| p as f64 * f));
            *shared = Arc::new(Table {
                cos: angles().map(|angle| angle.cos() as f32).collect(),
                sin: angles().map(|angle| angle.sin() as f32).collect(),
            });
        }
        Arc::clone(&shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;

    #[test]
    fn positions_in_any_order_get_their_own_angles() {
        let frequencies = [1.0, 0.25, 1e-4];
        let device = device::select(device::DEFAULT).unwrap();
        let angles = Angles::new(&frequencies);
        // The second table is larger, the third call needs none.
        for positions in [vec![0, 1, 2, 0], vec![7, 3, 900, 5], vec![899, 0, 0, 1]] {
            let Rotary { cos, sin } = angles.clone().at(&positions, 2, &device);
            assert_eq!(cos.dims(), [2, 2, 3]);
            let expected = |function: fn(f64) -> f64| -> Vec<f32> {
                let at = |p: &u32| frequencies.map(|f| function(f64::from(*p) * f) as f32);
                positions.iter().flat_map(at).collect()
            };
            assert_eq!(
                cos.into_data().try_to_vec::<f32>().unwrap(),
                expected(f64::cos)
            );
            assert_eq!(
                sin.into_data().try_to_vec::<f32>().unwrap(),
                expected(f64::sin)
            );
        }
    }
}
