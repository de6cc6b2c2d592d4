//! Where an axis begins and ends, and which numbers it says.

use std::ops::Range;

use crate::picture::{Band, Panel};

/// The axis below some panels.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) log: bool,
    /// In powers of ten if `log`.
    pub(crate) range: Range<f64>,
    pub(crate) ticks: Vec<f64>,
    /// What ticks are apart, for their decimals.
    step: f64,
}

impl Axis {
    /// Holds all points and bands.
    pub(crate) fn below(panels: &[Panel]) -> Axis {
        let log = panels.last().is_some_and(|panel| panel.log_x);
        let points = panels.iter().flat_map(|panel| &panel.series);
        let points = points.flat_map(|series| &series.points);
        let points = points.filter(|point| point.1.is_finite());
        let bands = panels.iter().flat_map(|panel| &panel.bands);
        let ends = bands.flat_map(|Band { from, to, .. }| [*from, *to]);
        let places = points.map(|point| point.0).chain(ends);
        let places: Vec<_> = places.filter_map(|x| place(log, x)).collect();
        let range = range(places.iter().copied());
        // Of what comes in whole numbers, there are no halves.
        let is_whole = places.iter().all(|x| x.fract() == 0.0);
        let wide = range.end - range.start;
        let most = if is_whole && (1.0..10.0).contains(&wide) {
            wide as usize
        } else {
            10
        };
        let (ticks, step) = if log {
            powers(&range)
        } else {
            even(&range, most)
        };
        Axis {
            log,
            range,
            ticks,
            step,
        }
    }

    /// Where a value is; none if it is nowhere.
    pub(crate) fn place(&self, x: f64) -> Option<f64> {
        place(self.log, x)
    }

    /// The number of a tick.
    pub(crate) fn label(&self, tick: f64) -> String {
        if self.log {
            let value = 10f64.powf(tick);
            number(value, 10f64.powf(tick.floor()))
        } else {
            number(tick, self.step)
        }
    }
}

fn place(log: bool, x: f64) -> Option<f64> {
    let x = if log { x.log10() } else { x };
    x.is_finite().then_some(x)
}

/// From the least to the largest; wider if they are the same, or none.
pub(crate) fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (least, most) = (least.min(value), most.max(value));
    }
    if least > most {
        0.0..1.0
    } else if most - least <= most.abs().max(least.abs()) * 1e-9 {
        least - 0.5 * least.abs().max(1.0)..most + 0.5 * most.abs().max(1.0)
    } else {
        least..most
    }
}

/// At most `most` round numbers, and what they are apart: 1, 2 or 5 times a power of ten.
pub(crate) fn even(range: &Range<f64>, most: usize) -> (Vec<f64>, f64) {
    let rough = (range.end - range.start) / most as f64;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| *step >= rough * 0.999_999);
    let step = step.unwrap_or(rough);
    // A hair of slack, so that an end that is a tick is one in spite of rounding.
    let (first, last) = (range.start / step - 1e-6, range.end / step + 1e-6);
    let ticks = (first.ceil() as i64..=last.floor() as i64).map(|at| at as f64 * step);
    (ticks.collect(), step)
}

/// Powers of ten; over less than three of them, 2 and 5 times each, too, and over less than one all
/// their multiples.
fn powers(range: &Range<f64>) -> (Vec<f64>, f64) {
    let wide = range.end - range.start;
    let factors: &[f64] = if wide < 0.7 {
        &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    } else if wide < 3.0 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let powers = range.start.floor() as i32..=range.end.ceil() as i32;
    let all = powers.flat_map(|power| factors.iter().map(move |f| f64::from(power) + f.log10()));
    let inside = |tick: &f64| *tick >= range.start - 1e-6 && *tick <= range.end + 1e-6;
    (all.filter(inside).collect(), 1.0)
}

/// A number, with as many decimals as tell it from one that is `step` away.
pub(crate) fn number(value: f64, step: f64) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    let decimals = |step: f64| (-step.abs().log10() - 1e-9).ceil().clamp(0.0, 12.0) as usize;
    let (size, step_size) = (value.abs(), step.abs());
    if step_size < 0.99e-4 || size >= 1e10 {
        let text = format!("{value:.1e}").replace(".0e", "e");
        if size == 0.0 { "0".to_owned() } else { text }
    } else if size >= 999_999.5 {
        format!("{:.*}M", decimals(step_size / 1e6), value / 1e6)
    } else if size >= 9_999.5 {
        format!("{:.*}k", decimals(step_size / 1e3), value / 1e3)
    } else {
        format!("{value:.*}", decimals(step_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        let check = |range: Range<f64>, expected: &[&str]| {
            let (ticks, step) = even(&range, 5);
            let labels: Vec<_> = ticks.iter().map(|tick| number(*tick, step)).collect();
            assert_eq!(labels, expected, "{range:?}");
        };
        check(0.0..1.0, &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        check(0.0..120.0, &["0", "50", "100"]);
        check(-3.0..2.0, &["-3", "-2", "-1", "0", "1", "2"]);
        check(0.0..45_000.0, &["0", "10k", "20k", "30k", "40k"]);
        check(0.0..3e6, &["0", "1M", "2M", "3M"]);
        check(
            0.0..2.5e11,
            &["0", "5e10", "1e11", "1.5e11", "2e11", "2.5e11"],
        );
        check(0.0..3e-7, &["0", "1e-7", "2e-7", "3e-7"]);
    }

    #[test]
    fn powers_of_ten_are_ticks_of_a_logarithm() {
        let check = |range: Range<f64>, expected: &[&str]| {
            let (ticks, step) = powers(&range);
            let axis = Axis {
                log: true,
                range,
                ticks,
                step,
            };
            let labels: Vec<_> = axis.ticks.iter().map(|tick| axis.label(*tick)).collect();
            assert_eq!(labels, expected);
        };
        check(-2.0..4.0, &["0.01", "0.1", "1", "10", "100", "1000", "10k"]);
        check(0.0..1.0, &["1", "2", "5", "10"]);
        check(-0.4..0.1, &["0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"]);
    }

    #[test]
    fn a_range_is_never_empty() {
        assert_eq!(range([].into_iter()), 0.0..1.0);
        assert_eq!(range([4.0, 4.0].into_iter()), 2.0..6.0);
        assert_eq!(range([0.0].into_iter()), -0.5..0.5);
        assert_eq!(range([3.0, 1.0].into_iter()), 1.0..3.0);
    }
}
