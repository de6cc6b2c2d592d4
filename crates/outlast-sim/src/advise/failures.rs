//! What failures that are normal say: when a breaker trips, how often a call is tried, and how many
//! extra attempts there is room for.

use super::tails::{at_least, share_between};
use super::times::{lasting, percent};
use super::{Goals, Observed, UNHEALTHY, Value, Verdict, room};

/// So many failures among the last calls as normal days never have, and an outage has at once.
pub(super) fn breaker(observed: &Observed, goals: &Goals) -> (u64, Verdict) {
    let (n, (low, high)) = match baseline(observed) {
        Ok(baseline) => baseline,
        Err(refused) => return refused,
    };
    let trips = |calls| threshold(calls, high, goals.false_trips);
    let fits = |&calls: &u64| {
        trips(calls).is_some_and(|failures| at_least(failures, calls, goals.outage) >= POWER)
    };
    let Some(calls) = (1..=LONGEST_WINDOW).find(fits) else {
        let why = format!(
            "up to {} of the attempts fail on normal days, too near to the {} of an outage to tell \
             them apart",
            percent(high),
            percent(goals.outage)
        );
        let needs = "a window without an outage, or a dependency that fails less often";
        return (n, Verdict::refused(why, needs));
    };
    let at = |share| {
        let failures = threshold(calls, share, goals.false_trips);
        Value::Of(failures.unwrap_or(calls), calls)
    };
    let verdict = Verdict::Advised {
        value: at(high),
        low: at(low),
        high: at(high),
        assumes: format!(
            "failures independent, {} of them on normal days (95% limit; {} of {n} seen): a false \
             trip in {:.0} windows of {calls} calls at the most, and {} failing is found within one",
            percent(high),
            observed.failed(),
            1.0 / goals.false_trips,
            percent(goals.outage)
        ),
    };
    (n, verdict)
}

/// The least number of failures that hardly ever happens.
fn threshold(calls: u64, share: f64, false_trips: f64) -> Option<u64> {
    (1..=calls).find(|&failures| at_least(failures, calls, share) <= false_trips)
}

/// As often as it takes until hardly any call fails for a failure that passes.
pub(super) fn attempts(observed: &Observed, goals: &Goals) -> (u64, Verdict) {
    let (n, (low, high)) = match baseline(observed) {
        Ok(baseline) => baseline,
        Err(refused) => return refused,
    };
    if let Some(correlation) = observed.failures_cluster
        && correlation > MOST_CLUSTERED
    {
        let why = format!(
            "failures come in clusters (correlation {correlation:.2}), so an attempt at once fails \
             like the one before"
        );
        let needs = "longer waits between attempts, until the correlation is below 0.3";
        return (n, Verdict::refused(why, needs));
    }
    let tries = |share: f64| {
        let mut failing = share;
        let mut attempts = 1;
        while failing > goals.failed && attempts <= MOST_ATTEMPTS {
            failing *= share;
            attempts += 1;
        }
        attempts
    };
    let value = tries(high);
    if value > MOST_ATTEMPTS {
        let why = format!(
            "with up to {} failing it would take more than {MOST_ATTEMPTS} attempts: retries do not \
             cure that",
            percent(high)
        );
        let needs = "a dependency that fails less often, or a fallback";
        return (n, Verdict::refused(why, needs));
    }
    let load: f64 = (0..value).map(|retry| libm::pow(high, retry as f64)).sum();
    let mut assumes = format!(
        "failures independent, up to {} of the attempts: at most {} of the calls fail, for {load:.3} \
         attempts a call",
        percent(high),
        percent(goals.failed)
    );
    if observed.failures_cluster.is_none() {
        assumes.push_str("; whether they come in clusters was not measured");
    }
    let verdict = Verdict::Advised {
        value: Value::Count(value),
        low: Value::Count(tries(low)),
        high: Value::Count(value),
        assumes,
    };
    (n, verdict)
}

/// Half of the room that the busiest seconds leave.
pub(super) fn ratio(observed: &Observed, goals: &Goals) -> (u64, Verdict) {
    let arrivals = match room::peak(observed, goals) {
        Ok(arrivals) => arrivals,
        Err(refused) => return refused,
    };
    let Some(capacity) = goals.capacity.or(observed.busiest) else {
        let why = "nothing says how much the upstream can serve";
        return (
            arrivals.n,
            Verdict::refused(why, "a capacity from a load test"),
        );
    };
    let half = |rate: f64| ((capacity - rate) / rate / 2.0).clamp(0.0, MOST_EXTRA);
    let value = half(arrivals.value);
    if value < LEAST_EXTRA {
        let why = format!(
            "{capacity:.0}/s are hardly more than the {:.0}/s of a busy second: there is no room for \
             extra attempts{}",
            arrivals.value,
            if goals.capacity.is_none() {
                " that was seen"
            } else {
                ""
            }
        );
        let needs = format!(
            "a load test that shows a capacity of {:.0}/s or more",
            libm::ceil(arrivals.value * (1.0 + 2.0 * LEAST_EXTRA))
        );
        return (arrivals.n, Verdict::refused(why, needs));
    }
    let from = match goals.capacity {
        Some(_) => "as stated",
        None => "the most that ended in a second so far, so rather more",
    };
    let verdict = Verdict::Advised {
        value: Value::Share(value),
        low: Value::Share(half(arrivals.high)),
        high: Value::Share(half(arrivals.low)),
        assumes: format!(
            "a capacity of {capacity:.0}/s ({from}) for {:.0}/s in a busy second; counted per \
             success, so an outage earns nothing",
            arrivals.value
        ),
    };
    (arrivals.n, verdict)
}

/// The limits of the share that fails on normal days.
fn baseline(observed: &Observed) -> Result<(u64, (f64, f64)), (u64, Verdict)> {
    let n = observed.judged();
    if n < ATTEMPTS {
        let why = format!("{n} attempts are too few to know how many fail on normal days");
        let more = lasting(n, ATTEMPTS, observed.window);
        return Err((
            n,
            Verdict::refused(why, format!("{ATTEMPTS} attempts{more}")),
        ));
    }
    let failing = observed.failed() as f64 / n as f64;
    if failing > UNHEALTHY {
        let why = format!(
            "{} of the attempts failed: that is an outage, and no baseline",
            percent(failing)
        );
        return Err((n, Verdict::refused(why, "a window without an outage")));
    }
    Ok((n, share_between(observed.failed(), n)))
}

/// Without any failure so many show that at most a hundredth fails (the rule of three).
const ATTEMPTS: u64 = 300;
/// The share of outages that must trip within a window.
const POWER: f64 = 0.99;
/// Calls of the longest window: a policy file takes up to 10,000, and an outage is found late there.
const LONGEST_WINDOW: u64 = 1_000;
/// More attempts rather multiply an outage than they save a call.
const MOST_ATTEMPTS: u64 = 5;
/// Above this correlation a retry at once is worthless.
const MOST_CLUSTERED: f64 = 0.3;
/// However much room there is.
const MOST_EXTRA: f64 = 0.2;
/// Less than half a percent is no budget.
const LEAST_EXTRA: f64 = 0.005;
