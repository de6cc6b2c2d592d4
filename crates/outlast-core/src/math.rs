//! Exponentials and logarithms that are the same, to the last bit, on every platform.
//!
//! Those of the standard library are the platform's own and round differently here and there, which
//! would make two runs of the same seed differ between a laptop and a server. Additions,
//! multiplications, divisions and square roots are the same everywhere (IEEE 754), so these are made
//! of them: reduced to a small range, a series that is right to the last few bits.

/// e to the power of `x`; 0 below -708, and no more than e^709.
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let x = x.min(709.0);
    if x < -708.0 {
        return 0.0;
    }
    let twos = (x / LN_2).round();
    // What is left is at most 0.35; the two parts of the logarithm keep what rounding would lose.
    let rest = (x - twos * LN_2_HIGH) - twos * LN_2_LOW;
    let series = (1..=14)
        .rev()
        .fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    series * f64::from_bits(((1023 + twos as i64) as u64) << 52)
}

/// The natural logarithm of a positive, normal number.
pub(crate) fn ln(x: f64) -> f64 {
    debug_assert!(x >= f64::MIN_POSITIVE && x.is_finite(), "{x}");
    let bits = x.to_bits();
    let mut twos = ((bits >> 52) as i64 - 1023) as f64;
    // Between 1 and 2, and then between 0.71 and 1.42.
    let mut part = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if part > std::f64::consts::SQRT_2 {
        part /= 2.0;
        twos += 1.0;
    }
    let s = (part - 1.0) / (part + 1.0);
    let square = s * s;
    let series = (0..=11)
        .rev()
        .fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    twos * LN_2_HIGH + (2.0 * s * series + twos * LN_2_LOW)
}

const LN_2: f64 = std::f64::consts::LN_2;
/// The first 32 bits, so that its products with small whole numbers are exact.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_the_platform_to_a_few_bits() {
        for step in -7000..=7000 {
            let x = f64::from(step) / 10.01;
            let (ours, theirs) = (exp(x), x.exp());
            assert!(
                (ours / theirs - 1.0).abs() < 1e-15,
                "e^{x}: {ours} and {theirs}"
            );
            let (back, there) = (ln(theirs), theirs.ln());
            assert!(
                (back - there).abs() <= 1e-15 * there.abs().max(0.1),
                "ln {theirs}: {back}"
            );
        }
        assert_eq!((exp(0.0), exp(-1e9), ln(1.0)), (1.0, 0.0, 0.0));
        assert!(exp(f64::NAN).is_nan() && exp(1e9).is_finite());
        let tiny = f64::MIN_POSITIVE;
        assert!((ln(tiny) - tiny.ln()).abs() < 1e-12);
    }

    /// Bits that every platform has to give.
    #[test]
    fn they_are_the_same_everywhere() {
        let all = (1..1000).fold(0u64, |hash, step| {
            let x = f64::from(step) / 37.0;
            let hash = hash.rotate_left(7) ^ exp(-x).to_bits();
            hash.rotate_left(7) ^ ln(x).to_bits()
        });
        assert_eq!(all, EVERYWHERE);
    }

    const EVERYWHERE: u64 = 5_806_520_916_480_876_102;
}
