//! How many attempts at once, and how many more may wait.

use std::time::Duration;

use super::times::{lasting, percent};
use super::{
    Bucket, Goals, ONE_IN_TWENTY, Observed, Survival, UNHEALTHY, Value, Verdict, staffing,
};

/// Seats for the mean number of attempts at once in a busy second, and for its spread.
pub(super) fn concurrency(observed: &Observed, goals: &Goals) -> (u64, Verdict) {
    let arrivals = match peak(observed, goals) {
        Ok(arrivals) => arrivals,
        Err(refused) => return refused,
    };
    let held = match held(observed) {
        Ok(held) => held,
        Err(refused) => return refused,
    };
    let seats = |rate: f64, time: f64| Value::Count(staffing::seats(rate * time, goals.refused));
    let verdict = Verdict::Advised {
        value: seats(arrivals.value, held.value),
        low: seats(arrivals.low, held.low),
        high: seats(arrivals.high, held.high),
        assumes: format!(
            "Little and Erlang B: {:.1} at once in a busy second ({:.0}/s of {} each), arrivals at \
             random, none waits; {} find no seat. A seat is held until the answer ends: long bodies \
             need more",
            arrivals.value * held.value,
            arrivals.value,
            Value::Time(seconds(held.value)),
            percent(goals.refused),
        ),
    };
    (arrivals.n, verdict)
}

/// As many as the upstream still serves before their callers leave.
pub(super) fn queue(observed: &Observed, goals: &Goals) -> (u64, Verdict) {
    let n = observed.timed();
    let Some(deadline) = goals.deadline.or(observed.settings.deadline) else {
        let why = "nothing says how long callers wait";
        return (
            n,
            Verdict::refused(why, "a deadline, of the upstream or given"),
        );
    };
    let stated = goals.cold.or(goals.capacity);
    let Some(capacity) = stated.or(observed.busiest.filter(|&busiest| busiest > 0.0)) else {
        let why = "nothing says how much the upstream can serve";
        return (n, Verdict::refused(why, "a capacity from a load test"));
    };
    let held = match held(observed) {
        Ok(held) => held,
        Err(refused) => return refused,
    };
    // Who waits for a seat is let through no faster than seats become free.
    let through = seats(observed, goals).map(|seats| seats as f64 / held.value);
    let (capacity, from) = match (through.filter(|&through| through < capacity), stated) {
        (Some(through), _) => (through, "what the seats let through"),
        (None, Some(_)) => (capacity, "as stated"),
        (None, None) => (
            capacity,
            "the most that ended in a second so far; with a load test it may be more",
        ),
    };
    let left = |time: f64| (deadline.as_secs_f64() - time).max(0.0);
    let places = |time: f64| Value::Count(libm::floor(capacity * left(time) + 1e-6) as u64);
    if left(held.high) <= 0.0 {
        let why = format!(
            "an attempt takes {}, and callers wait no longer than {}",
            Value::Time(seconds(held.value)),
            Value::Time(deadline)
        );
        return (
            n,
            Verdict::refused(why, "a deadline that an attempt can keep"),
        );
    }
    let verdict = Verdict::Advised {
        value: places(held.value),
        low: places(held.high),
        high: places(held.low),
        assumes: format!(
            "first come first served at {capacity:.0}/s ({from}) at the worst, for callers who wait \
             {}: then no queue outlives its callers. Half of the seats is a stricter bound",
            Value::Time(deadline)
        ),
    };
    (n, verdict)
}

/// Seats as they are advised, or else as they are.
fn seats(observed: &Observed, goals: &Goals) -> Option<u64> {
    match concurrency(observed, goals).1 {
        Verdict::Advised {
            value: Value::Count(seats),
            ..
        } => Some(seats),
        _ => observed.settings.concurrency,
    }
}

/// A number with its limits, and what it rests on.
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) n: u64,
}

/// Arrivals in a busy second: the 99th percentile, or what was given for it.
pub(super) fn peak(observed: &Observed, goals: &Goals) -> Result<Estimate, (u64, Verdict)> {
    let n: u64 = observed.arrivals.iter().map(|(_, count)| count).sum();
    if let Some(rate) = goals.peak {
        let n = observed.timed();
        return Ok(Estimate {
            value: rate,
            low: rate,
            high: rate,
            n,
        });
    }
    if n < SECONDS {
        let why = format!("{n} seconds are too few to know the busiest in a hundred");
        let more = lasting(n, SECONDS, observed.window);
        let needs = format!("{SECONDS} seconds, better a week{more}; or the peak, if it is known");
        return Err((n, Verdict::refused(why, needs)));
    }
    let rates = Survival::of(observed.arrivals.clone(), Vec::new());
    let least = |deviations| rates.least(BUSY, deviations);
    // Of a few hundred seconds the upper limit of the 99th percentile is the busiest of all.
    let busiest = rates.least(0.0, 0.0).unwrap_or_default();
    let value = least(0.0).unwrap_or(busiest);
    if value <= 0.0 {
        let why = "hardly anything arrived";
        return Err((n, Verdict::refused(why, "a window with traffic")));
    }
    Ok(Estimate {
        value,
        low: least(-ONE_IN_TWENTY).unwrap_or(value),
        high: least(ONE_IN_TWENTY).unwrap_or(busiest),
        n,
    })
}

/// How long an attempt occupies the upstream, in seconds: to its answer, or until it was cut.
fn held(observed: &Observed) -> Result<Estimate, (u64, Verdict)> {
    let n = observed.timed();
    if n < ATTEMPTS {
        let why = format!("{n} attempts are too few for a mean time");
        let more = lasting(n, ATTEMPTS, observed.window);
        return Err((
            n,
            Verdict::refused(why, format!("{ATTEMPTS} attempts{more}")),
        ));
    }
    let failing = observed.failed() as f64 / observed.judged().max(1) as f64;
    if failing > UNHEALTHY {
        let why = format!(
            "{} of the attempts failed: times of an outage say nothing of normal ones",
            percent(failing)
        );
        return Err((n, Verdict::refused(why, "a window without an outage")));
    }
    let all = || observed.answered.iter().chain(&observed.cut);
    let sum = |of: fn(f64) -> f64| -> f64 {
        let term = |bucket: &Bucket| of(bucket.upper.as_secs_f64()) * bucket.count as f64;
        all().map(term).sum()
    };
    let count = n as f64;
    let mean = sum(|time| time) / count;
    let variance = (sum(|time| time * time) / count - mean * mean).max(0.0);
    let margin = ONE_IN_TWENTY * libm::sqrt(variance / count);
    Ok(Estimate {
        value: mean,
        low: (mean - margin).max(0.0),
        high: mean + margin,
        n,
    })
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_nanos(libm::round(seconds * 1e9) as u64)
}

/// A busy second is the busiest in a hundred.
const BUSY: f64 = 0.01;
/// Three of them are busier than the 99th percentile.
const SECONDS: u64 = 300;
/// Even of times with a heavy tail (a coefficient of variation of 3) a mean is known to 15 %.
const ATTEMPTS: u64 = 1_000;
