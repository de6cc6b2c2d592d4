//! How much of the traffic each level of preference gets: arithmetic without state, and the damper.
//!
//! A level carries its usable share of weight times 1.4 (Envoy's overprovisioning factor), at most
//! everything: one endpoint in four may fail before anything spills over. Levels are filled in
//! order. If all of them together carry less than everything, each gets in proportion.
//!
//! The damper keeps a preferred level from getting its traffic back at once: what a level carries
//! may fall at any time, but rises only after a time without a relapse, and then evenly. It only
//! holds back what the other levels can carry.

use super::config::FailBack;
use crate::time::{Time, nanos};

/// What one level could carry, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Capacity {
    /// By its health.
    pub(super) healthy: f64,
    /// By its health and the damper: at most the former.
    pub(super) damped: f64,
}

/// Usable weight counts 1.4 times.
pub(super) fn capacity(usable_weight: f64, weight: f64) -> f64 {
    (OVERPROVISIONING * usable_weight / weight).min(1.0)
}

const OVERPROVISIONING: f64 = 1.4;

/// The share of each level; they add up to 1, or are all zero if no level can carry anything.
/// `true` if the levels carry everything together.
pub(super) fn divide(capacities: &[Capacity], shares: &mut [f64]) -> bool {
    let mut left = 1.0;
    for (share, capacity) in shares.iter_mut().zip(capacities) {
        *share = capacity.damped.min(left);
        left -= *share;
    }
    for (share, capacity) in shares.iter_mut().zip(capacities) {
        let more = (capacity.healthy - capacity.damped).min(left);
        *share += more;
        left -= more;
    }
    let carried = 1.0 - left;
    if carried > 0.0 {
        for share in shares {
            *share /= carried;
        }
    }
    left < 1e-9
}

/// Lets what a level carries fall at once and rise slowly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Damper {
    /// It carries what it can.
    Steady { at: f64 },
    /// It could carry more, but has to prove that it stays so.
    Holding { at: f64, since: Time },
    /// It gets more and more.
    Rising { from: f64, since: Time },
}

impl Damper {
    /// What it may carry at `now`, when it could carry `healthy`. All changes of state are made
    /// here.
    pub(super) fn step(&mut self, healthy: f64, now: Time, fail_back: FailBack) -> f64 {
        loop {
            let next = match *self {
                Damper::Steady { at } if healthy > at => Damper::Holding { at, since: now },
                Damper::Steady { .. } => {
                    *self = Damper::Steady { at: healthy };
                    return healthy;
                }
                Damper::Holding { at, .. } if healthy <= at => Damper::Steady { at: healthy },
                Damper::Holding { at, since } if now >= since + fail_back.after => Damper::Rising {
                    from: at,
                    since: since + fail_back.after,
                },
                Damper::Holding { at, .. } => return at,
                Damper::Rising { from, since } => {
                    let at = from + progress(since, now, nanos(fail_back.over));
                    if at < healthy {
                        return at;
                    }
                    Damper::Steady { at: healthy }
                }
            };
            *self = next;
        }
    }

    /// When [`Damper::step`] gives something else although nothing happened.
    pub(super) fn wakes(&self, now: Time, fail_back: FailBack) -> Time {
        match *self {
            Damper::Steady { .. } => Time::MAX,
            Damper::Holding { since, .. } => since + fail_back.after,
            Damper::Rising { .. } => now + fail_back.over / STEPS,
        }
    }
}

/// How far a ramp of `length` nanoseconds has come, from 0 to 1.
pub(super) fn progress(since: Time, now: Time, length: u64) -> f64 {
    let passed = nanos(now.since(since));
    if passed >= length {
        return 1.0;
    }
    passed as f64 / length as f64
}

/// A ramp is climbed in so many steps.
pub(super) const STEPS: u32 = 32;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn healthy(healthy: f64) -> Capacity {
        Capacity {
            healthy,
            damped: healthy,
        }
    }

    fn shares(capacities: &[Capacity]) -> (Vec<f64>, bool) {
        let mut shares = vec![0.0; capacities.len()];
        let carried = divide(capacities, &mut shares);
        (shares, carried)
    }

    fn close(one: &[f64], other: &[f64]) -> bool {
        one.iter()
            .zip(other)
            .all(|(one, other)| (one - other).abs() < 1e-9)
    }

    /// The table of Envoy's documentation on priority levels.
    #[test]
    fn traffic_spills_over_as_in_envoys_table() {
        let table: [(&[f64], &[f64]); 7] = [
            (&[1.0, 1.0], &[1.0, 0.0]),
            (&[0.72, 1.0], &[1.0, 0.0]),
            (&[0.71, 1.0], &[0.994, 0.006]),
            (&[0.5, 1.0], &[0.7, 0.3]),
            (&[0.25, 0.25], &[0.5, 0.5]),
            (&[0.2, 0.2, 0.1], &[0.4, 0.4, 0.2]),
            (&[0.0, 0.0], &[0.0, 0.0]),
        ];
        for (usable, expected) in table {
            let capacity = |&usable: &f64| healthy(capacity(usable, 1.0));
            let capacities: Vec<_> = usable.iter().map(capacity).collect();
            let (found, _) = shares(&capacities);
            assert!(close(&found, expected), "{usable:?}: {found:?}");
        }
    }

    #[test]
    fn a_damped_level_gets_what_the_others_cannot_carry() {
        let first = Capacity {
            healthy: 1.0,
            damped: 0.2,
        };
        assert!(close(&shares(&[first, healthy(1.0)]).0, &[0.2, 0.8]));
        assert!(close(&shares(&[first, healthy(0.5)]).0, &[0.5, 0.5]));
        assert!(close(&shares(&[first, healthy(0.0)]).0, &[1.0, 0.0]));
    }

    #[test]
    fn a_level_falls_at_once_and_rises_slowly() {
        let fail_back = FailBack {
            after: Duration::from_secs(10),
            over: Duration::from_secs(20),
        };
        let mut damper = Damper::Steady { at: 1.0 };
        let table = [
            (0, 1.0, 1.0),
            (1, 0.0, 0.0),
            (2, 1.0, 0.0), // recovered: holding
            (11, 1.0, 0.0),
            (11, 0.0, 0.0), // a relapse: from the start
            (13, 1.0, 0.0),
            (23, 1.0, 0.0),
            (28, 1.0, 0.25),
            (33, 0.4, 0.4), // it cannot carry as much as it would get
            (34, 1.0, 0.4),
            (44, 1.0, 0.4),
            (50, 1.0, 0.7),
            (56, 1.0, 1.0),
            (60, 1.0, 1.0),
        ];
        for (second, healthy, expected) in table {
            let carried = damper.step(healthy, Time::from_millis(second * 1_000), fail_back);
            assert!(
                (carried - expected).abs() < 1e-9,
                "second {second}: {carried}"
            );
        }
    }

    proptest! {
        #[test]
        fn shares_add_up_and_stay_within_the_health(
            pairs in proptest::collection::vec((0.0..=1.0f64, 0.0..=1.0f64), 1..6),
        ) {
            let capacities: Vec<_> = pairs
                .iter()
                .map(|&(healthy, part)| Capacity { healthy, damped: healthy * part })
                .collect();
            let (found, carried) = shares(&capacities);
            let total: f64 = capacities.iter().map(|one| one.healthy).sum();
            let sum: f64 = found.iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-6 || (total == 0.0 && sum == 0.0));
            if carried {
                for (share, capacity) in found.iter().zip(&capacities) {
                    prop_assert!(*share <= capacity.healthy + 1e-6);
                }
            } else {
                prop_assert!(total < 1.0 + 1e-6);
            }
        }
    }
}
