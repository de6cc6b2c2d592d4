//! When it was over: two definitions, since the first alone hides a long tail of retries.

use std::time::Duration;

use outlast_config::scenario::Scenario;

use super::course::CourseSecond;

/// How a run recovered from what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// From the end of the last fault to the end of the last second in which calls that began did not
    /// do well: less than 99 % of them were good. Where less than 99.9 % were before the first fault,
    /// three standard deviations less than that are well.
    pub well: Duration,
    /// From the end of the last fault to the last attempt of a call that began before it.
    pub quiet: Duration,
    /// Whether all was well for a while before the end: for ten seconds, or a tenth of the time after
    /// the faults if that is shorter. A world in which nobody calls any more is not well.
    pub recovered: bool,
}

impl Recovery {
    /// The longer one of both.
    pub fn time(&self) -> Duration {
        self.well.max(self.quiet)
    }
}

/// Judges a run; `None` if nothing happens that is over. `last` is when the last attempt was made of
/// a call that began before the end of the faults.
pub(super) fn recovery(
    scenario: &Scenario,
    seconds: &[CourseSecond],
    last: Duration,
) -> Option<Recovery> {
    let (begins, over) = (scenario.begins()?, scenario.over()?);
    let healthy = healthy(scenario, seconds, begins);
    let first = over.as_secs() as usize;
    let after = seconds.get(first..).unwrap_or_default();
    let bad = after.iter().rposition(|second| !is_well(second, healthy));
    let bad = if falls_silent(scenario, seconds, begins) {
        after.len().checked_sub(1)
    } else {
        bad
    };
    let well = bad.map_or(Duration::ZERO, |bad| {
        Duration::from_secs((first + bad) as u64 + 1).saturating_sub(over)
    });
    let rest = scenario.lasts.saturating_sub(over);
    let quiet_end = QUIET.min(rest / 10).max(Duration::from_secs(1));
    Some(Recovery {
        well,
        quiet: last.saturating_sub(over),
        recovered: well + quiet_end <= rest,
    })
}

/// The share that was good before anything happened; all of it if nothing is known of that.
fn healthy(scenario: &Scenario, seconds: &[CourseSecond], begins: Duration) -> f64 {
    let until = (begins.as_secs() as usize).min(seconds.len());
    let from = (scenario.warm_up.as_secs() as usize).min(until);
    let before = &seconds[from..until];
    let calls: u64 = before.iter().map(|second| second.calls).sum();
    let good: u64 = before.iter().map(|second| second.good).sum();
    if calls == 0 {
        1.0
    } else {
        good as f64 / calls as f64
    }
}

/// Nobody calls any more at the end, although somebody did before anything happened: whoever waits for
/// answers does not get any. So many seconds without a call would be chance once in a hundred million
/// times.
fn falls_silent(scenario: &Scenario, seconds: &[CourseSecond], begins: Duration) -> bool {
    let until = (begins.as_secs() as usize).min(seconds.len());
    let from = (scenario.warm_up.as_secs() as usize).min(until);
    let calls: u64 = seconds[from..until].iter().map(|second| second.calls).sum();
    let a_second = calls as f64 / (until - from).max(1) as f64;
    let silent = seconds.iter().rev().take_while(|second| second.calls == 0);
    silent.count() as f64 * a_second > 18.0
}

fn is_well(second: &CourseSecond, healthy: f64) -> bool {
    let calls = second.calls as f64;
    let share = if healthy >= 0.999 {
        0.99
    } else {
        let deviation = libm::sqrt(healthy * (1.0 - healthy) / calls.max(1.0));
        (healthy - 3.0 * deviation).min(0.99)
    };
    second.good as f64 >= share * calls
}

/// So long all has to be well before the end.
const QUIET: Duration = Duration::from_secs(10);
