//! Linear axes: an extent, round ticks, and the way from data to pixels.

use super::svg::{Anchor, Svg, TEXT};
use crate::report::format;

/// The part of the number line that is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    pub low: f64,
    pub high: f64,
}

impl Extent {
    /// All `values` and, where they do not dwarf them, the ends of their intervals, with some air; never outside
    /// `range`. With two seeds a t interval is some nine times as wide as its data, and would flatten everything else:
    /// intervals widen the extent by at most the data's own span on each side and are cut at the edge.
    /// `None` without values.
    pub fn around(values: &[f64], ends: &[f64], range: Option<[f64; 2]>) -> Option<Self> {
        let (low, high) = bounds(values)?;
        let span = if high > low { high - low } else { low.abs().max(1.0) * 0.1 };
        let (mut outer_low, mut outer_high) = (low, high);
        for &end in ends {
            outer_low = outer_low.min(end.max(low - span));
            outer_high = outer_high.max(end.min(high + span));
        }
        let air = 0.06 * if outer_high > outer_low { outer_high - outer_low } else { span };
        let (mut low, mut high) = (outer_low - air, outer_high + air);
        if let Some([least, most]) = range.filter(|[least, most]| least < most) {
            // A value beyond the stated range is shown all the same: hiding it would hide a mistake.
            low = low.max(least.min(outer_low) - air / 3.0);
            high = high.min(most.max(outer_high) + air / 3.0);
        }
        Some(Self { low, high })
    }

    /// Round numbers inside the extent, about `wanted` of them, and the decimals they need.
    pub fn ticks(&self, wanted: usize) -> (Vec<f64>, usize) {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * magnitude).find(|step| *step >= rough * 0.7);
        let step = step.unwrap_or(10.0 * magnitude);
        let decimals = (-(step * 1.0001).log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        ((first..=last).map(|k| k as f64 * step).collect(), decimals)
    }
}

fn bounds(values: &[f64]) -> Option<(f64, f64)> {
    let mut defined = values.iter().copied().filter(|value| value.is_finite());
    let first = defined.next()?;
    Some(defined.fold((first, first), |(low, high), value| (low.min(value), high.max(value))))
}

/// A rectangle of the drawing with a data extent on each axis.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub x: Extent,
    pub y: Extent,
}

impl Panel {
    pub fn at_x(&self, value: f64) -> f64 {
        self.left + (value - self.x.low) / (self.x.high - self.x.low) * self.width
    }

    pub fn at_y(&self, value: f64) -> f64 {
        self.top + self.height - (value - self.y.low) / (self.y.high - self.y.low) * self.height
    }

    /// [`Self::at_y`], kept inside the panel.
    pub fn clipped_y(&self, value: f64) -> f64 {
        self.at_y(value).clamp(self.top, self.top + self.height)
    }

    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Heading, horizontal grid and the foot line; numbers beside the grid if `numbered`.
    pub fn frame(&self, svg: &mut Svg, heading: &str, numbered: bool) {
        svg.text("strong", (self.left + self.width / 2.0, self.top - 8.0), Anchor::Middle, heading);
        let (ticks, decimals) = self.y.ticks((self.height / 45.0) as usize);
        for tick in ticks {
            let y = self.at_y(tick);
            svg.line("grid", (self.left, y), (self.left + self.width, y));
            if numbered {
                svg.text("muted", (self.left - 6.0, y + TEXT * 0.35), Anchor::End, &format::fixed(tick, decimals));
            }
        }
        svg.line("axis", (self.left, self.bottom()), (self.left + self.width, self.bottom()));
    }

    /// Numbers under the foot line at round values.
    pub fn number_x(&self, svg: &mut Svg) {
        let (ticks, decimals) = self.x.ticks((self.width / 70.0) as usize);
        for tick in ticks {
            self.mark_x(svg, tick, &format::fixed(tick, decimals));
        }
    }

    /// One labelled tick under the foot line.
    pub fn mark_x(&self, svg: &mut Svg, value: f64, label: &str) {
        let x = self.at_x(value);
        svg.line("axis", (x, self.bottom()), (x, self.bottom() + 4.0));
        svg.text("muted", (x, self.bottom() + TEXT + 6.0), Anchor::Middle, label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let (ticks, decimals) = Extent { low: 0.487, high: 0.761 }.ticks(5);
        assert_eq!((ticks.len(), decimals), (6, 2));
        let (ticks, decimals) = Extent { low: -12.0, high: 31.0 }.ticks(5);
        assert_eq!((ticks, decimals), (vec![-10.0, 0.0, 10.0, 20.0, 30.0], 0));
    }

    #[test]
    fn a_huge_interval_does_not_flatten_the_data() {
        let extent = Extent::around(&[0.5, 0.6], &[-10.0, 11.0], None).unwrap();
        assert!(extent.low > 0.35 && extent.high < 0.75, "{extent:?}");
    }

    #[test]
    fn equal_values_and_no_values_have_an_extent_or_none() {
        let extent = Extent::around(&[0.0, 0.0], &[], None).unwrap();
        assert!(extent.low < 0.0 && extent.high > 0.0);
        assert_eq!(Extent::around(&[], &[1.0], None), None);
    }

    #[test]
    fn the_stated_range_bounds_the_axis_but_never_hides_a_value() {
        let inside = Extent::around(&[0.97, 1.0], &[1.2], Some([0.0, 1.0])).unwrap();
        assert!(inside.high < 1.1, "{inside:?}");
        let outside = Extent::around(&[0.5, 1.4], &[], Some([0.0, 1.0])).unwrap();
        assert!(outside.high >= 1.4);
    }
}
