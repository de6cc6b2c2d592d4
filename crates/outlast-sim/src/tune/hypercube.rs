//! Points that are spread evenly: a Latin hypercube (McKay, Beckman and Conover 1979).

use outlast_core::rng::Rng;

/// So many points in a cube with sides from 0 to 1. Each side is cut into as many equal parts as there
/// are points, and each part holds one point: so 64 points try 64 values of each setting, where a grid
/// over six settings would try two.
pub fn hypercube(points: usize, dimensions: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut rng = Rng::new(seed);
    let mut cube = vec![Vec::with_capacity(dimensions); points];
    for _ in 0..dimensions {
        let mut parts: Vec<usize> = (0..points).collect();
        // Fisher and Yates.
        for last in (1..points).rev() {
            let other = (rng.unit() * (last + 1) as f64) as usize;
            parts.swap(last, other.min(last));
        }
        for (point, part) in cube.iter_mut().zip(parts) {
            point.push((part as f64 + rng.unit()) / points as f64);
        }
    }
    cube
}

/// What a setting may be, on a logarithmic scale: half as much is as far as twice as much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    least: f64,
    most: f64,
}

impl Range {
    /// From a `factor`-th of a value to so many times that, kept within bounds. Values that may be 0
    /// are moved by one, because 0 has no logarithm.
    ///
    /// # Panics
    /// If the value or a bound is negative, or the factor less than 1.
    pub fn around(value: f64, factor: f64, bounds: (f64, f64)) -> Range {
        let (least, most) = bounds;
        assert!(
            value >= 0.0 && least >= 0.0 && factor >= 1.0,
            "a scale of what is not negative"
        );
        let offset = offset(least);
        let within = |value: f64| value.clamp(least, most);
        Range {
            least: within((value + offset) / factor - offset),
            most: within((value + offset) * factor - offset),
        }
    }

    /// The least.
    pub fn least(&self) -> f64 {
        self.least
    }

    /// The most.
    pub fn most(&self) -> f64 {
        self.most
    }

    /// What is at a place between 0 (the least) and 1 (the most).
    pub fn at(&self, place: f64) -> f64 {
        let offset = offset(self.least);
        let (least, most) = (self.least + offset, self.most + offset);
        let value = least * libm::pow(most / least, place) - offset;
        value.clamp(self.least, self.most)
    }
}

/// What makes a scale of a value that may be 0.
fn offset(least: f64) -> f64 {
    if least > 0.0 { 0.0 } else { 1.0 }
}
