//! Times that are quantiles: when an attempt is given up, and when it gets a second one beside it.

use std::time::Duration;

use super::{Goals, ONE_IN_TWENTY, Observed, Survival, Value, Verdict, room};

/// The upper limit of the quantile that only a share of all exceeds that may be cut.
pub(super) fn timeout(observed: &Observed, goals: &Goals) -> (u64, Verdict) {
    let (n, share) = (observed.timed(), goals.false_timeouts);
    let least = observations(TAIL_OF_TIMEOUT, share);
    if n < least {
        return (n, too_few(n, least, share, observed.window));
    }
    let lasts = Survival::new(&observed.answered, &observed.cut);
    let limits = (
        lasts.limit(share, -ONE_IN_TWENTY),
        lasts.limit(share, ONE_IN_TWENTY),
        lasts.quantile(0.5),
    );
    let (Some(low), Some(high), Some(median)) = limits else {
        return (n, hidden(observed, share));
    };
    let padded = high.max(2 * median);
    let deadline = goals.deadline.or(observed.settings.deadline);
    let value = deadline.map_or(padded, |deadline| padded.min(deadline));
    let mut assumes = format!(
        "order statistics with the cut attempts (Kaplan-Meier): attempts alike and not in bursts; \
         {} of them would have answered later",
        percent(share)
    );
    if padded > high {
        assumes.push_str("; padded to twice the median, as the tail is short");
    }
    if value < padded {
        assumes.push_str("; held at the deadline, so more are cut than that");
    }
    let verdict = Verdict::Advised {
        value: Value::Time(value),
        low: Value::Time(low.max(2 * median).min(value)),
        high: Value::Time(value),
        assumes,
    };
    (n, verdict)
}

/// The least delay after which no more than the allowed share gets a second attempt.
pub(super) fn hedge(observed: &Observed, goals: &Goals) -> (u64, Verdict) {
    let (n, share) = (observed.timed(), goals.hedged);
    let least = observations(TAIL_OF_HEDGE, share);
    if n < least {
        return (n, too_few(n, least, share, observed.window));
    }
    if let Some(verdict) = no_hedge(observed, goals) {
        return (n, verdict);
    }
    let lasts = Survival::new(&observed.answered, &observed.cut);
    let limits = (
        lasts.quantile(share),
        lasts.limit(share, -ONE_IN_TWENTY),
        lasts.limit(share, ONE_IN_TWENTY),
    );
    let (Some(value), Some(low), Some(high)) = limits else {
        return (n, hidden(observed, share));
    };
    let mut assumes = format!(
        "{} more attempts; S_h(t) = S(t) S(t-d) if the second attempt is independent of the first",
        percent(share)
    );
    if observed.slow_together.is_none() {
        assumes.push_str(" (not measured)");
    }
    if goals.capacity.is_none() {
        assumes.push_str("; utilisation not looked at without a capacity");
    }
    assumes.push_str("; only for calls that may be repeated");
    let verdict = Verdict::Advised {
        value: Value::Time(value),
        low: Value::Time(low),
        high: Value::Time(high),
        assumes,
    };
    (n, verdict)
}

/// Where a second attempt does harm, or no good.
fn no_hedge(observed: &Observed, goals: &Goals) -> Option<Verdict> {
    if let Some(together) = observed.slow_together
        && together > MOST_TOGETHER
    {
        return Some(Verdict::refused(
            format!(
                "two attempts of a call are slow together {together:.1} times as often as if they \
                 were independent, so a second one rarely helps"
            ),
            "a second endpoint that does not share what makes the first one slow",
        ));
    }
    let (capacity, arrivals) = (goals.capacity?, room::peak(observed, goals).ok()?);
    let (busy, most) = (
        arrivals.value / capacity,
        1.0 / (1.0 + goals.hedged) - MARGIN,
    );
    (busy > most).then(|| {
        Verdict::refused(
            format!(
                "at the peak it is busy to {}, and hedges make it busier: above {} they lengthen \
                 the tail that they should cut",
                percent(busy),
                percent(most)
            ),
            format!("a capacity of {:.0}/s", libm::ceil(arrivals.value / most)),
        )
    })
}

/// So many observations that the tail itself has enough.
fn observations(tail: f64, share: f64) -> u64 {
    libm::ceil(tail / share - 1e-9) as u64
}

fn too_few(n: u64, least: u64, share: f64, window: Duration) -> Verdict {
    let why = format!(
        "{n} attempts are too few to know what {} of them exceed",
        percent(share)
    );
    Verdict::refused(
        why,
        format!("{least} attempts{}", lasting(n, least, window)),
    )
}

/// How long until there are as many, at the rate seen.
pub(super) fn lasting(n: u64, least: u64, window: Duration) -> String {
    if n == 0 || window.is_zero() {
        return String::new();
    }
    let more = window.as_secs_f64() * ((least - n) as f64 / n as f64);
    let (number, unit) = match more {
        more if more < 120.0 => (more, "s"),
        more if more < 7_200.0 => (more / 60.0, "min"),
        more if more < 172_800.0 => (more / 3_600.0, "h"),
        more => (more / 86_400.0, "days"),
    };
    format!(": about {:.0} {unit} more at this rate", libm::ceil(number))
}

/// Too many were cut off to see the quantile.
fn hidden(observed: &Observed, share: f64) -> Verdict {
    let cut: u64 = observed.cut.iter().map(|bucket| bucket.count).sum();
    let longest = observed.cut.iter().map(|bucket| bucket.upper).max();
    let longest = Value::Time(2 * longest.unwrap_or_default());
    Verdict::refused(
        format!(
            "{cut} of {} attempts were cut off, so what {} of them exceed lies beyond all that was \
             seen",
            observed.timed(),
            percent(share)
        ),
        format!("a longer timeout for a while, such as {longest}, and this window again"),
    )
}

pub(super) fn percent(share: f64) -> String {
    let digits = if share < 0.001 { 1e4 } else { 1e2 };
    format!("{}%", libm::round(share * 1e2 * digits) / digits)
}

/// Attempts beyond the quantile: a hundred fix the share that is cut to a sixth.
const TAIL_OF_TIMEOUT: f64 = 100.0;
/// A delay that is off by a third in extra load does no harm, and is soon corrected.
const TAIL_OF_HEDGE: f64 = 20.0;
/// Above this, both attempts wait for the same thing.
const MOST_TOGETHER: f64 = 3.0;
/// Utilisation that is left free beside the hedges.
const MARGIN: f64 = 0.05;
