//! Random numbers by what they are for, not by when they are drawn.
//!
//! Each number is a function of the seed, of who draws it, of what for, and of its index. So the
//! thousandth request of a client takes as long at a service, and comes at the same time, whatever
//! a policy did with those before: two policies see the same world (common random numbers), and
//! what differs between them is theirs.

use outlast_core::rng::mix;

/// All random numbers of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws(u64);

/// What a number is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// The gap before an arrival.
    Gap = 1,
    /// What is random about the policies of a call.
    Call,
    /// How long a service takes.
    Work,
    /// Whether it fails.
    Failure,
    /// How long a user thinks.
    Thought,
    /// What is random about the shared state of an upstream.
    State,
    /// How long a client without Outlast waits.
    Wait,
    /// Which of a client's upstreams a call goes through.
    Through,
    /// How much later than it must a refused caller comes back.
    Return,
    /// When a replica is asked whether it is alive, or an endpoint is checked.
    Check,
    /// The gap before a saga begins.
    SagaGap,
    /// What is random about the policies of a step's call.
    Step,
    /// Whether the runner of sagas crashes.
    Crash,
    /// Whether a saga is cancelled.
    Cancel,
    /// When a saga is cancelled.
    CancelTime,
    /// Whether a service declines.
    Decline,
    /// Whether an answer is cut off.
    Cut,
}

impl Draws {
    pub(crate) const fn new(seed: u64) -> Draws {
        Draws(mix(seed.wrapping_add(GOLDEN)))
    }

    /// 64 bits.
    pub(crate) fn bits(self, entity: u32, purpose: Purpose, index: u64) -> u64 {
        let who = u64::from(entity) << 8 | purpose as u64;
        let who = mix(self.0 ^ who.wrapping_mul(GOLDEN));
        mix(who.wrapping_add(index.wrapping_mul(GOLDEN)))
    }

    /// A number in `(0, 1)`: its logarithm, and that of one less it, are finite.
    pub(crate) fn unit(self, entity: u32, purpose: Purpose, index: u64) -> f64 {
        unit(self.bits(entity, purpose, index))
    }
}

/// The middle of one of 2^53 equal parts of `(0, 1)`.
pub(crate) fn unit(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// 2^64 over the golden ratio, odd: multiples of it are spread evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_depends_on_everything_it_is_for_and_on_nothing_else() {
        let draws = Draws::new(1);
        let one = draws.bits(2, Purpose::Work, 3);
        assert_eq!(one, Draws::new(1).bits(2, Purpose::Work, 3));
        for other in [
            Draws::new(2).bits(2, Purpose::Work, 3),
            draws.bits(3, Purpose::Work, 3),
            draws.bits(2, Purpose::Gap, 3),
            draws.bits(2, Purpose::Work, 4),
        ] {
            assert_ne!(one, other);
        }
    }

    /// Means, variances and lagged products of uniform numbers, within four standard errors.
    #[test]
    fn they_are_uniform_and_independent_of_their_neighbours() {
        let draws = Draws::new(7);
        let count = 200_000;
        for lag in [(0, 1), (1, 0)] {
            let (mut sum, mut square, mut product) = (0.0, 0.0, 0.0);
            for index in 0..count {
                let one = draws.unit(0, Purpose::Gap, index) - 0.5;
                let other = draws.unit(lag.1, Purpose::Gap, index + lag.0) - 0.5;
                sum += one;
                square += one * one;
                product += one * other;
            }
            let count = count as f64;
            let error = (1.0 / 12.0 / count).sqrt();
            assert!((sum / count).abs() < 4.0 * error, "{lag:?}");
            assert!((square / count - 1.0 / 12.0).abs() < 4.0 * error, "{lag:?}");
            assert!((product / count).abs() < 4.0 * error, "{lag:?}");
        }
    }
}
