//! Axes and labels of drawings.

use std::fmt::Write;

/// Where values stand on a drawing.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// First and last value; above zero on a logarithmic axis.
    pub values: [f64; 2],
    /// Their places, in the drawing's units.
    pub places: [f64; 2],
    /// Equal ratios, not equal differences, are equally far apart.
    pub logarithmic: bool,
}

/// Labels that keep out of each other's way.
#[derive(Clone, Debug, Default)]
pub struct Labels(Vec<[f64; 4]>);

/// Width of a letter of a label, in the drawing's units: 12 px system fonts have 5.5 to 6.5.
const LETTER: f64 = 6.4;
const HEIGHT: f64 = 13.0;

// === impl Axis ===

impl Axis {
    /// Equal differences are equally far apart.
    pub fn linear(values: [f64; 2], places: [f64; 2]) -> Self {
        Self {
            values,
            places,
            logarithmic: false,
        }
    }

    /// Place of a value; values beyond the axis stand at its end.
    pub fn at(&self, value: f64) -> f64 {
        let [low, high] = self.values;
        let value = value.clamp(low, high.max(low));
        let part = if self.logarithmic {
            (value / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        let part = if part.is_finite() { part } else { 0.0 };
        self.places[0] + part * (self.places[1] - self.places[0])
    }

    /// Round values along the axis: at most `most`, or the powers of ten.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        let [low, high] = self.values;
        if self.logarithmic {
            let first = low.log10().ceil() as i32;
            let powers = (first..first + 12).map(|power| 10_f64.powi(power));
            return powers.take_while(|tick| *tick <= high * 1.001).collect();
        }
        let step = step(high - low, most);
        let first = (low / step).ceil();
        let ticks = (0..=most + 1).map(|number| (first + number as f64) * step);
        ticks
            .take_while(|tick| *tick <= high + step * 1e-6)
            .collect()
    }

    /// Upright lines of a grid with the ticks' labels below `bottom`.
    pub fn draw_upright(
        &self,
        svg: &mut String,
        (top, bottom): (f64, f64),
        ticks: &[(f64, String)],
    ) {
        for (tick, label) in ticks {
            let x = self.at(*tick);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
                bottom + 15.0
            );
        }
    }

    /// Level lines of a grid with the ticks' labels before `left`.
    pub fn draw_level(&self, svg: &mut String, (left, right): (f64, f64), ticks: &[(f64, String)]) {
        for (tick, label) in ticks {
            let y = self.at(*tick);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                left - 6.0,
                y + 4.0
            );
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that at most `most` steps fit.
pub fn step(range: f64, most: usize) -> f64 {
    let rough = (range / most.max(1) as f64).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let enough = steps.into_iter().find(|step| *step >= rough * 0.999_999);
    enough.unwrap_or(power * 10.0)
}

// === impl Labels ===

impl Labels {
    /// Nothing may be written over this point.
    pub fn keep_free(&mut self, (x, y): (f64, f64), radius: f64) {
        self.0
            .push([x - radius, y - radius, x + radius, y + radius]);
    }

    /// Writes a label beside a point where nothing else stands, inside 0 to `width`; nowhere, if there
    /// is no such place.
    pub fn write(&mut self, svg: &mut String, (x, y): (f64, f64), text: &str, width: f64) {
        let long = text.chars().count() as f64 * LETTER;
        let places = [
            (x + 9.0, y + 4.0),
            (x - 9.0 - long, y + 4.0),
            (x - long / 2.0, y - 10.0),
            (x - long / 2.0, y + 19.0),
            (x + 7.0, y - 9.0),
            (x + 7.0, y + 17.0),
            (x - 7.0 - long, y - 9.0),
            (x - 7.0 - long, y + 17.0),
            (x + 12.0, y + 30.0),
            (x - long - 12.0, y - 22.0),
        ];
        for (left, base) in places {
            let wanted = [left, base - HEIGHT + 3.0, left + long, base + 3.0];
            let free = self.0.iter().all(|taken| apart(taken, &wanted));
            if free && left >= 0.0 && left + long <= width {
                let _ = write!(svg, "<text x=\"{left:.1}\" y=\"{base:.1}\">{text}</text>");
                self.0.push(wanted);
                return;
            }
        }
    }
}

fn apart(a: &[f64; 4], b: &[f64; 4]) -> bool {
    a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside_the_axis() {
        let axis = Axis::linear([0.0, 0.83], [0.0, 100.0]);
        assert_eq!(axis.ticks(5).len(), 5);
        assert!((axis.ticks(5)[4] - 0.8).abs() < 1e-9);
        let axis = Axis {
            values: [0.1, 250.0],
            places: [0.0, 100.0],
            logarithmic: true,
        };
        assert_eq!(axis.ticks(5).len(), 4);
    }

    #[test]
    fn an_axis_of_one_value_has_a_place_for_it() {
        let axis = Axis::linear([1.0, 1.0], [10.0, 20.0]);
        assert!((axis.at(1.0) - 10.0).abs() < 1e-9);
    }
}
