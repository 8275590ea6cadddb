//! Linear and logarithmic axes: an extent, round ticks, and the mapping from data to pixels.

use super::svg::{Anchor, Svg, TEXT, width_of};
use crate::report::format;

/// The scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisMap {
    Linear,
    /// Common logarithms; numbers that are not above 0 have no place.
    Log,
}

impl AxisMap {
    pub fn log_if(log: bool) -> Self {
        if log { Self::Log } else { Self::Linear }
    }

    /// The place of a number on the scale; not finite if it has none.
    pub fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
        }
    }

    /// The number at a place of the scale.
    pub fn value(self, place: f64) -> f64 {
        match self {
            Self::Linear => place,
            Self::Log => 10_f64.powf(place),
        }
    }
}

/// The part of the number line that is shown, in places of its scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    pub low: f64,
    pub high: f64,
    pub scale: AxisMap,
}

impl Extent {
    pub fn linear(low: f64, high: f64) -> Self {
        Self {
            low,
            high,
            scale: AxisMap::Linear,
        }
    }

    /// The extent of [`Self::around`] on a scale.
    pub fn on(scale: AxisMap, values: &[f64], ends: &[f64]) -> Option<Self> {
        let places = |values: &[f64]| {
            values
                .iter()
                .map(|value| scale.place(*value))
                .collect::<Vec<_>>()
        };
        Some(Self {
            scale,
            ..Self::around(&places(values), &places(ends), None)?
        })
    }

    /// The extent of all `values` and of the ends of their intervals, unless these are far wider,
    /// with some air; never outside `range`. With two seeds a t interval is about nine times as
    /// wide as its data and would flatten everything else, so intervals widen the extent by at most
    /// the data's own span on each side and are cut at the edge. `None` without values.
    pub fn around(values: &[f64], ends: &[f64], range: Option<[f64; 2]>) -> Option<Self> {
        let (low, high) = bounds(values)?;
        let span = if high > low {
            high - low
        } else {
            low.abs().max(1.0) * 0.1
        };
        let (mut outer_low, mut outer_high) = (low, high);
        for &end in ends.iter().filter(|end| end.is_finite()) {
            outer_low = outer_low.min(end.max(low - span));
            outer_high = outer_high.max(end.min(high + span));
        }
        let air = 0.06
            * if outer_high > outer_low {
                outer_high - outer_low
            } else {
                span
            };
        let (mut low, mut high) = (outer_low - air, outer_high + air);
        if let Some([least, most]) = range.filter(|[least, most]| least < most) {
            // A value beyond the stated range is still shown: hiding it would hide a mistake.
            low = low.max(least.min(outer_low) - air / 3.0);
            high = high.min(most.max(outer_high) + air / 3.0);
        }
        Some(Self::linear(low, high))
    }

    /// Round numbers inside the extent with their labels, about `wanted` of them.
    pub fn named_ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        match self.scale {
            AxisMap::Linear => {
                let (ticks, decimals) = self.ticks(wanted);
                ticks
                    .into_iter()
                    .map(|tick| (tick, format::fixed(tick, decimals)))
                    .collect()
            }
            AxisMap::Log => self
                .log_ticks(wanted)
                .into_iter()
                .map(|tick| (tick, format::compact(tick)))
                .collect(),
        }
    }

    /// Powers of ten, with 2 and 5 between them if there is room; round numbers if less than a
    /// decade is shown.
    fn log_ticks(&self, wanted: usize) -> Vec<f64> {
        let decades = self.high - self.low;
        let (mantissas, stride): (&[u32], usize) = match wanted as f64 / decades {
            per if per >= 3.0 => (&[1, 2, 5], 1),
            per if per >= 1.0 => (&[1], 1),
            per => (&[1], (1.0 / per).ceil() as usize),
        };
        let powers = (self.low.floor() as i64..=self.high.ceil() as i64)
            .filter(|power| power % stride as i64 == 0);
        // Parsed from text, so that 2e-3 is the number nearest to it and not a rounded product.
        let ticks = powers.flat_map(|power| {
            mantissas
                .iter()
                .filter_map(move |m| format!("{m}e{power}").parse().ok())
        });
        let ticks: Vec<f64> = ticks.filter(|tick| self.holds(*tick)).collect();
        if ticks.len() >= 2 {
            return ticks;
        }
        Self::linear(self.scale.value(self.low), self.scale.value(self.high))
            .ticks(wanted)
            .0
    }

    fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&self.scale.place(value))
    }

    /// Round numbers inside a linear extent, about `wanted` of them, and the number of decimals
    /// they need.
    fn ticks(&self, wanted: usize) -> (Vec<f64>, usize) {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|m| m * magnitude)
            .find(|step| *step >= rough * 0.7);
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
    Some(defined.fold((first, first), |(low, high), value| {
        (low.min(value), high.max(value))
    }))
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
        self.left
            + (self.x.scale.place(value) - self.x.low) / (self.x.high - self.x.low) * self.width
    }

    pub fn at_y(&self, value: f64) -> f64 {
        self.top + self.height
            - (self.y.scale.place(value) - self.y.low) / (self.y.high - self.y.low) * self.height
    }

    /// The pixel of [`Self::at_y`], kept inside the panel; values without a place on a logarithmic
    /// axis are at its foot.
    pub fn clipped_y(&self, value: f64) -> f64 {
        let y = self.at_y(value);
        if y.is_nan() {
            self.bottom()
        } else {
            y.clamp(self.top, self.bottom())
        }
    }

    /// The pixel of [`Self::at_x`], kept inside the panel.
    pub fn clipped_x(&self, value: f64) -> f64 {
        self.at_x(value).clamp(self.left, self.left + self.width)
    }

    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Draws the heading, the horizontal grid and the foot line; with numbers beside the grid if
    /// `numbered`.
    pub fn frame(&self, svg: &mut Svg, heading: &str, numbered: bool) {
        svg.text(
            "strong",
            (self.left + self.width / 2.0, self.top - 8.0),
            Anchor::Middle,
            heading,
        );
        for (tick, name) in self.y.named_ticks((self.height / 45.0) as usize) {
            let y = self.at_y(tick);
            svg.line("grid", (self.left, y), (self.left + self.width, y));
            if numbered {
                svg.text(
                    "muted",
                    (self.left - 6.0, y + TEXT * 0.35),
                    Anchor::End,
                    &name,
                );
            }
        }
        svg.line(
            "axis",
            (self.left, self.bottom()),
            (self.left + self.width, self.bottom()),
        );
    }

    /// Draws numbers under the foot line at round values.
    pub fn number_x(&self, svg: &mut Svg) {
        for (tick, name) in self.x.named_ticks((self.width / 70.0) as usize) {
            self.mark_x(svg, tick, &name);
        }
    }

    /// Draws the values themselves under the foot line, in ascending order, without those that
    /// would touch an earlier one.
    pub fn name_x(&self, svg: &mut Svg, values: &[f64]) {
        let mut free = f64::NEG_INFINITY;
        for &value in values {
            let name = format::compact(value);
            let half = width_of(&name) / 2.0 + 3.0;
            if self.at_x(value) - half >= free {
                self.mark_x(svg, value, &name);
                free = self.at_x(value) + half;
            }
        }
    }

    /// Draws the label of the horizontal axis, under its numbers.
    pub fn name_axis_x(&self, svg: &mut Svg, label: &str) {
        svg.text(
            "muted",
            (
                self.left + self.width / 2.0,
                self.bottom() + 2.0 * TEXT + 10.0,
            ),
            Anchor::Middle,
            label,
        );
    }

    /// Draws one labelled tick under the foot line.
    pub fn mark_x(&self, svg: &mut Svg, value: f64, label: &str) {
        let x = self.at_x(value);
        svg.line("axis", (x, self.bottom()), (x, self.bottom() + 4.0));
        svg.text(
            "muted",
            (x, self.bottom() + TEXT + 6.0),
            Anchor::Middle,
            label,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let (ticks, decimals) = Extent::linear(0.487, 0.761).ticks(5);
        assert_eq!((ticks.len(), decimals), (6, 2));
        let (ticks, decimals) = Extent::linear(-12.0, 31.0).ticks(5);
        assert_eq!((ticks, decimals), (vec![-10.0, 0.0, 10.0, 20.0, 30.0], 0));
    }

    #[test]
    fn logarithmic_ticks_fit_the_room() {
        let names = |low: f64, high: f64, wanted| -> Vec<String> {
            let extent = Extent {
                scale: AxisMap::Log,
                ..Extent::linear(low.log10(), high.log10())
            };
            extent
                .named_ticks(wanted)
                .into_iter()
                .map(|(_, name)| name)
                .collect()
        };
        assert_eq!(
            names(80.0, 3500.0, 6),
            ["100", "200", "500", "1000", "2000"]
        );
        assert_eq!(names(1e9, 1e13, 6), ["1e9", "1e10", "1e11", "1e12", "1e13"]);
        assert_eq!(names(1.0, 1e12, 4), ["1", "1000", "1e6", "1e9", "1e12"]);
        assert_eq!(names(0.31, 0.47, 4), ["0.35", "0.4", "0.45"]);
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
