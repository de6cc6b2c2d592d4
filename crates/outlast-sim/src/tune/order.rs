//! Which candidate is better.
//!
//! One thing after the other (a lexicographic order with tolerances): among those that keep the most
//! of their promises, those that recover as often as the best, to [`RECOVERED`]; among those, the
//! ones whose goodput is the best to [`GOODPUT`]; among those, the ones with the fewest attempts to
//! [`ATTEMPTS`]; among those, the quickest to [`LATENCY`]; among those, the one that was named first.
//! A sum of weights would sell a promise for enough goodput, and nobody knows the weights. Without
//! tolerances the last digit of goodput would decide, and neither attempts nor latency ever.

use super::Standing;

/// All of them, the best first. Tolerances are measured from the best of those that are left, so it
/// takes the best one out, again and again: a comparison of two within tolerances has no order.
pub fn order(standings: &[Standing]) -> Vec<usize> {
    let mut left: Vec<usize> = (0..standings.len()).collect();
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(best) = best(standings, left.clone()) {
        left.retain(|number| *number != best);
        ordered.push(best);
    }
    ordered
}

fn best(standings: &[Standing], mut left: Vec<usize>) -> Option<usize> {
    // All of them as costs: less is better, and so much more is as good, by itself or for each one.
    type Cost = fn(&Standing) -> f64;
    let levels: [(Cost, f64, f64); 5] = [
        (|standing| standing.missing, NOTHING, 0.0),
        (|standing| -standing.recovered, RECOVERED, 0.0),
        (|standing| -standing.goodput, GOODPUT, 0.0),
        (|standing| standing.attempts, ATTEMPTS, 0.0),
        (|standing| standing.p99, 0.0, LATENCY),
    ];
    for (cost, more, share) in levels {
        let costs = left.iter().map(|number| cost(&standings[*number]));
        let least = costs.fold(f64::INFINITY, f64::min);
        if least == f64::INFINITY {
            // All are alike.
            continue;
        }
        let most = least + more + least.abs() * share;
        left.retain(|number| cost(&standings[*number]) <= most);
    }
    left.first().copied()
}

/// Those that no other has both more goodput and fewer attempts than (Pareto), the fewest attempts
/// first. Of those that are alike in both, the first one.
pub fn pareto(standings: &[Standing]) -> Vec<usize> {
    let beats = |(at, one): (usize, &Standing), (than, other): (usize, &Standing)| {
        let is_as_good = one.goodput >= other.goodput && one.attempts <= other.attempts;
        let is_better = one.goodput > other.goodput || one.attempts < other.attempts;
        is_as_good && (is_better || at < than)
    };
    let is_beaten = |number: usize| {
        let mut all = standings.iter().enumerate();
        all.any(|one| beats(one, (number, &standings[number])))
    };
    let mut set: Vec<usize> = (0..standings.len()).collect();
    set.retain(|number| !is_beaten(*number));
    set.sort_by(|one, other| {
        let (one, other) = (&standings[*one], &standings[*other]);
        one.attempts.total_cmp(&other.attempts)
    });
    set
}

/// One run in a hundred that does not recover is as good as none.
pub const RECOVERED: f64 = 0.01;
/// One call in a thousand that is not good is as good as none.
pub const GOODPUT: f64 = 0.001;
/// One attempt more per hundred calls is as good as none.
pub const ATTEMPTS: f64 = 0.01;
/// A p99 that is longer by a twentieth is as good.
pub const LATENCY: f64 = 0.05;
/// What shares differ by if they are equal.
const NOTHING: f64 = 1e-9;
