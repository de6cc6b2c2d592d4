//! A number that changes over time along straight lines: load in calls a second, or how fast a
//! service works.

use std::time::Duration;

use outlast_core::time::Time;

/// Straight lines between points; level before the first and after the last.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// By time; at one time there may be two, for a jump.
    points: Vec<(Time, f64)>,
}

impl Curve {
    /// Always the same.
    ///
    /// # Panics
    /// If `value` is negative or no number.
    pub fn level(value: f64) -> Curve {
        Curve::start(value)
    }

    fn start(value: f64) -> Curve {
        assert!(value >= 0.0 && value.is_finite(), "{value} is no level");
        Curve {
            points: vec![(Time::ZERO, value)],
        }
    }

    /// From `at` on another value, at once.
    ///
    /// # Panics
    /// If `value` is negative or no number, or if `at` lies before a point that is there.
    pub fn jump(self, at: Duration, value: f64) -> Curve {
        let before = self.last();
        self.line(at, before).line(at, value)
    }

    /// To this value at `at`, along a straight line from the last point.
    ///
    /// # Panics
    /// As [`Curve::jump`].
    pub fn line(mut self, at: Duration, value: f64) -> Curve {
        assert!(value >= 0.0 && value.is_finite(), "{value} is no level");
        let at = Time::ZERO + at;
        let last = self.points.last().map(|point| point.0);
        assert!(last <= Some(at), "a curve goes on, and not back");
        self.points.push((at, value));
        self
    }

    /// From one time to another, each value so many times as high; before and after as it was.
    ///
    /// # Panics
    /// If `factor` is negative or no number.
    pub fn times(self, factor: f64, from: Duration, to: Duration) -> Curve {
        assert!(factor >= 0.0 && factor.is_finite(), "{factor} is no factor");
        let (from, to) = (Time::ZERO + from, Time::ZERO + to.max(from));
        let scaled = |(at, value): &(Time, f64)| (*at, value * factor);
        let points = &self.points;
        let mut made: Vec<_> = points
            .iter()
            .filter(|point| point.0 < from)
            .copied()
            .collect();
        made.push((from, self.before(from)));
        made.push((from, self.at(from) * factor));
        let within = points.iter().filter(|point| from < point.0 && point.0 < to);
        made.extend(within.map(scaled));
        made.push((to, self.before(to) * factor));
        made.push((to, self.at(to)));
        made.extend(points.iter().filter(|point| point.0 > to));
        Curve { points: made }
    }

    /// The highest value.
    pub fn most(&self) -> f64 {
        self.points
            .iter()
            .fold(0.0, |most, point| point.1.max(most))
    }

    fn last(&self) -> f64 {
        self.points.last().expect("a curve has a point").1
    }

    /// The value at a time; at a jump that behind it.
    pub fn at(&self, time: Time) -> f64 {
        let next = self.points.partition_point(|point| point.0 <= time);
        match (
            next.checked_sub(1).map(|at| self.points[at]),
            self.points.get(next),
        ) {
            (None, _) => self.points[0].1,
            (Some((_, value)), None) => value,
            (Some((from, low)), Some(&(to, high))) => {
                let share = time.since(from).as_secs_f64() / to.since(from).as_secs_f64();
                low + (high - low) * share
            }
        }
    }

    /// Whether it is above zero at some time from `time` on.
    pub(crate) fn rises_after(&self, time: Time) -> bool {
        let later = self.points.iter().filter(|point| point.0 > time);
        self.at(time) > 0.0 || later.map(|point| point.1).any(|value| value > 0.0)
    }

    /// When the area under the curve, in value times seconds, from `time` on is `area`; `None` for
    /// never. With an exponentially distributed area this is the next arrival of a Poisson process
    /// whose rate is the curve.
    pub fn reaches(&self, mut time: Time, mut area: f64) -> Option<Time> {
        loop {
            let value = self.at(time);
            let next = self.points.iter().find(|point| point.0 > time);
            let Some(&(end, _)) = next else {
                return (value > 0.0).then(|| after(time, area / value));
            };
            let seconds = end.since(time).as_secs_f64();
            let slope = (self.before(end) - value) / seconds;
            let whole = value * seconds + slope * seconds * seconds / 2.0;
            if area < whole {
                // The root of slope/2 t^2 + value t = area, in the form that bears a slope of zero.
                let root = libm::sqrt((value * value + 2.0 * slope * area).max(0.0));
                return Some(after(time, 2.0 * area / (value + root)));
            }
            area -= whole;
            time = end;
        }
    }

    /// The value just before a time.
    fn before(&self, time: Time) -> f64 {
        let jump = self.points.iter().find(|point| point.0 == time);
        jump.map_or_else(|| self.at(time), |point| point.1)
    }
}

fn after(time: Time, seconds: f64) -> Time {
    time + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn lines_and_jumps_have_their_values() {
        let curve = Curve::level(2.0)
            .jump(10 * SECOND, 4.0)
            .line(20 * SECOND, 0.0);
        for (millis, value) in [
            (0, 2.0),
            (9_999, 2.0),
            (10_000, 4.0),
            (15_000, 2.0),
            (30_000, 0.0),
        ] {
            assert!((curve.at(at(millis)) - value).abs() < 1e-9, "{millis}");
        }
    }

    #[test]
    fn areas_are_reached_where_they_are() {
        let curve = Curve::level(2.0)
            .jump(10 * SECOND, 4.0)
            .line(20 * SECOND, 0.0);
        let check = |area, millis: Option<u64>| {
            let found = curve.reaches(Time::ZERO, area);
            let found = found.map(|time| (time.as_nanos() + 500_000) / 1_000_000);
            assert_eq!(found, millis, "{area}");
        };
        check(1.0, Some(500));
        check(20.0, Some(10_000));
        check(23.8, Some(11_000));
        check(35.0, Some(15_000));
        check(39.999_999_98, Some(20_000));
        check(40.1, None);
        assert_eq!(Curve::level(0.0).reaches(Time::ZERO, 1.0), None);
        let later = Curve::level(0.0).jump(SECOND, 10.0);
        assert_eq!(later.reaches(Time::ZERO, 5.0), Some(at(1500)));
    }

    #[test]
    fn a_part_of_a_curve_may_be_higher() {
        let curve = Curve::level(2.0)
            .jump(10 * SECOND, 4.0)
            .line(20 * SECOND, 0.0);
        let higher = curve.times(3.0, 5 * SECOND, 15 * SECOND);
        for (millis, value) in [
            (0, 2.0),
            (4_999, 2.0),
            (5_000, 6.0),
            (9_999, 6.0),
            (10_000, 12.0),
            (14_000, 7.2),
            (15_000, 2.0),
            (20_000, 0.0),
        ] {
            let found = higher.at(at(millis));
            assert!((found - value).abs() < 1e-2, "{millis}: {found}");
        }
        assert_eq!(
            Curve::level(1.0).times(2.0, SECOND, SECOND).at(at(2000)),
            1.0
        );
        assert!((higher.most() - 12.0).abs() < 1e-9);
    }

    #[test]
    #[should_panic(expected = "goes on")]
    fn a_curve_does_not_go_back() {
        let _ = Curve::level(1.0).jump(2 * SECOND, 1.0).line(SECOND, 1.0);
    }
}
