//! The legend of a figure: samples of its lines with their names, in rows above the panels.

use super::svg::{Anchor, Svg, width_of};
use super::{LEFT, WIDTH};

/// The length of a line sample.
const SAMPLE: f64 = 30.0;
/// The height of a row.
const ROW: f64 = 22.0;

/// Legend entries broken into rows that fit the width.
pub struct Legend {
    rows: Vec<Vec<Entry>>,
}

struct Entry {
    left: f64,
    class: String,
    label: String,
}

impl Legend {
    /// Builds a legend from the class and the name of each line.
    pub fn new(entries: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut rows = vec![Vec::new()];
        let mut left = LEFT;
        for (class, label) in entries {
            let width = SAMPLE + 6.0 + width_of(&label) + 20.0;
            if left + width > WIDTH && left > LEFT {
                rows.push(Vec::new());
                left = LEFT;
            }
            if let Some(row) = rows.last_mut() {
                row.push(Entry { left, class, label });
            }
            left += width;
        }
        Self { rows }
    }

    pub fn height(&self) -> f64 {
        ROW * self.rows.len() as f64
    }

    /// Draws the legend below `top`.
    pub fn draw(&self, svg: &mut Svg, top: f64) {
        for (row, entries) in self.rows.iter().enumerate() {
            let y = top + 16.0 + ROW * row as f64;
            for Entry { left, class, label } in entries {
                svg.line(class, (*left, y - 4.0), (left + SAMPLE, y - 4.0));
                svg.text("", (left + SAMPLE + 6.0, y), Anchor::Start, label);
            }
        }
    }
}
