//! Tails of the binomial distribution, exact at any size.

/// The probability of at least `k` among `n`, each with probability `p`.
pub(super) fn at_least(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if k > n || p <= 0.0 {
        return 0.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    // Abramowitz and Stegun, 26.5.24.
    incomplete_beta(k as f64, (n - k + 1) as f64, p)
}

/// The least and the largest probability that `part` of `whole` still speaks for; one in twenty
/// lies beyond either (Clopper and Pearson, 1934).
pub(super) fn share_between(part: u64, whole: u64) -> (f64, f64) {
    let low = if part == 0 {
        0.0
    } else {
        bisect(|p| at_least(part, whole, p) < BEYOND)
    };
    let high = if part >= whole {
        1.0
    } else {
        bisect(|p| 1.0 - at_least(part + 1, whole, p) > BEYOND)
    };
    (low, high)
}

/// The probability up to which `holds` does. It looks in logarithms first, as small shares matter.
fn bisect(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (LEAST, 1.0);
    for _ in 0..HALVINGS {
        let middle = if high / low > 4.0 {
            libm::sqrt(low * high)
        } else {
            (low + high) / 2.0
        };
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// The regularised incomplete beta function, by its continued fraction (Abramowitz and Stegun,
/// 26.5.8), evaluated as Lentz did.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    // Where the fraction converges slowly, its mirror image does not.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b)
        + a * libm::log(x)
        + b * libm::log1p(-x);
    let held = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / held(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..LONGEST {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / held(1.0 + even * d);
        c = held(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / held(1.0 + odd * d);
        c = held(1.0 + odd / c);
        let factor = d * c;
        fraction *= factor;
        if (factor - 1.0).abs() < PRECISION {
            break;
        }
    }
    libm::exp(front) * fraction / a
}

/// One in twenty.
const BEYOND: f64 = 0.05;
/// No failure in 10^14 attempts is more than anybody has seen.
const LEAST: f64 = 1e-16;
/// Enough for 12 digits, the first of them in logarithms.
const HALVINGS: u32 = 100;
/// Steps of the fraction: it takes about the square root of the larger parameter, so this is enough
/// for 10^10 attempts.
const LONGEST: u32 = 200_000;
const PRECISION: f64 = 1e-14;
const TINY: f64 = 1e-300;

#[cfg(test)]
mod tests {
    use super::*;

    /// Term by term, for small numbers.
    fn summed(k: u64, n: u64, p: f64) -> f64 {
        let choose = |k: u64| (0..k).fold(1.0, |c, at| c * (n - at) as f64 / (at + 1) as f64);
        let term = |k: u64| choose(k) * p.powf(k as f64) * (1.0 - p).powf((n - k) as f64);
        (k..=n).map(term).sum()
    }

    #[test]
    fn tails_are_their_sums() {
        for n in [1, 2, 10, 20, 100] {
            for k in 0..=n {
                for p in [1e-4, 0.01, 0.2, 0.5, 0.97] {
                    let (found, expected) = (at_least(k, n, p), summed(k, n, p));
                    let close = (found / expected - 1.0).abs() < 1e-9 || expected < 1e-250;
                    assert!(close, "{k} of {n} at {p}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn tails_are_those_of_the_literature() {
        let check = |k, n, p, expected: f64, relative: f64| {
            let found = at_least(k, n, p);
            let close = (found / expected - 1.0).abs() < relative;
            assert!(close, "{k} of {n} at {p}: {found} for {expected}");
        };
        // A breaker that trips at half of its window, with a fifth failing.
        check(5, 10, 0.2, 0.0328, 0.002);
        check(10, 20, 0.2, 0.0026, 0.005);
        check(50, 100, 0.2, 2e-11, 0.1);
        // Far beyond what could be summed: about normal.
        check(500_000_000, 1_000_000_000, 0.5, 0.5, 1e-4);
        check(10_164, 10_000_000, 0.001, 0.05, 0.03);
    }

    #[test]
    fn shares_lie_between_their_limits() {
        let check = |part, whole, low: f64, high: f64| {
            let found = share_between(part, whole);
            let near = |found: f64, expected: f64| (found - expected).abs() <= 1e-4 * expected;
            assert!(near(found.0, low) && near(found.1, high), "{found:?}");
        };
        // 1 - 0.05^(1/n): the rule of three.
        check(0, 300, 0.0, 0.009_936_1);
        check(300, 300, 0.990_063_9, 1.0);
        // The tables of Clopper and Pearson.
        check(1, 10, 0.005_116, 0.394_163);
        check(5, 10, 0.222_441, 0.777_559);
    }
}
