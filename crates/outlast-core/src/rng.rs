//! Randomness as an input.
//!
//! A call gets a seed from its driver and draws from its own generator, so equal seeds replay
//! equal decisions and two calls never share jitter (a generator cloned with its state, as in
//! tower's backoff, gives every request the same "random" delay).
//!
//! The generator is SplitMix64 (Steele, Lea, Flood 2014): one multiplication chain per number,
//! 64 bits of state, passes BigCrush. It is not for secrets.

/// A SplitMix64 generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that replays the same numbers for the same seed.
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 uniformly distributed bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next number in `[0, 1)`, with 53 bits of precision.
    pub fn unit(&mut self) -> f64 {
        unit(self.next_u64())
    }
}

/// SplitMix64's finalizer: spreads every input bit over the whole word.
pub const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The top 53 bits as a number in `[0, 1)`.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_replay_and_unequal_ones_differ() {
        let draw = |seed| -> Vec<u64> {
            let mut rng = Rng::new(seed);
            (0..8).map(|_| rng.next_u64()).collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    /// The reference values of the algorithm's author for seed 1234567.
    #[test]
    fn equals_the_reference_implementation() {
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn units_fill_the_half_open_interval_evenly() {
        let mut rng = Rng::new(1);
        let mut tenths = [0u32; 10];
        for _ in 0..100_000 {
            let unit = rng.unit();
            assert!((0.0..1.0).contains(&unit));
            tenths[(unit * 10.0) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|&count| (9_600..10_400).contains(&count)),
            "{tenths:?}"
        );
    }
}
