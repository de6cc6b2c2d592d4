//! Where a world tips: how much more load, or how much longer faults, its promises bear.
//!
//! All runs at all points have the same seeds (common random numbers), so that what differs between
//! two points is the point. The search doubles until half of the runs break a promise, and then
//! halves the interval; it takes for granted that more is not better.

use std::num::NonZeroUsize;
use std::time::Duration;

use outlast_config::scenario::{Change, Load, Scenario, Window};

use super::{Failure, Trial, batch};
use crate::statistics::Share;

/// What is more than the scenario says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaled {
    /// All rates and users.
    Load,
    /// How long everything in the timeline lasts, and the time between. Times in promises that lie
    /// behind the beginning move with it; what lies behind the end, that of the world included, is as
    /// far behind it as before.
    Trigger,
}

/// How far away the point is at which half of the runs break a promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Most runs keep their promises at so many times what the scenario says; 0 if at none.
    pub holds: f64,
    /// Half of them or more do not at so many times; `None` if they do at all that was tried.
    pub breaks: Option<f64>,
    /// In how many runs the promises were kept, by factor, as they were tried.
    pub tried: Vec<(f64, Share)>,
}

/// Finds the point to one in fifty. A run keeps its promises if it keeps all of them, or, if the
/// scenario has none, if all is well in the end. `done` is told each point that was tried.
///
/// # Errors
/// If the simulator fails. A run that goes beyond the scenario's bounds has not kept its promises.
pub fn head_room(
    trial: &Trial,
    scaled: Scaled,
    seed: u64,
    runs: u32,
    threads: NonZeroUsize,
    done: &mut dyn FnMut(f64, Share),
) -> Result<Head, Failure> {
    let mut tried = Vec::new();
    let mut holds_at = |factor: f64| -> Result<bool, Failure> {
        let trial = trial.with(|scenario| scale(scenario, scaled, factor));
        let kept = match batch(&trial, seed, runs, threads, &|_| {}) {
            Ok(batch) => batch.runs.iter().filter(|run| is_kept(&trial, run)).count() as u32,
            Err(Failure::Bound { .. }) => 0,
            Err(failure) => return Err(failure),
        };
        let share = Share::new(kept, runs);
        done(factor, share);
        tried.push((factor, share));
        Ok(kept * 2 > runs)
    };
    let (mut holds, mut breaks) = (0.0, None);
    let mut factor = 1.0;
    while factor <= MOST {
        if holds_at(factor)? {
            holds = factor;
            factor *= 2.0;
        } else {
            breaks = Some(factor);
            break;
        }
    }
    while let Some(high) = breaks
        && high - holds > EXACT * high
        && high > LEAST
    {
        let middle = f64::midpoint(holds, high);
        if holds_at(middle)? {
            holds = middle;
        } else {
            breaks = Some(middle);
        }
    }
    Ok(Head {
        holds,
        breaks,
        tried,
    })
}

fn is_kept(trial: &Trial, run: &super::Run) -> bool {
    let promises = &trial.scenario.promises;
    if promises.is_empty() {
        return run.recovery.is_none_or(|recovery| recovery.recovered);
    }
    let mut numbered = promises.iter().enumerate();
    numbered.all(|(number, promise)| run.keeps(number, promise))
}

fn scale(scenario: &mut Scenario, scaled: Scaled, factor: f64) {
    match scaled {
        Scaled::Load => {
            let clients = scenario.clients.iter_mut().map(|client| &mut client.load);
            let sagas = scenario
                .sagas
                .iter_mut()
                .map(|beginning| &mut beginning.load);
            clients.chain(sagas).for_each(|load| match load {
                Load::Open(points) => points.iter_mut().for_each(|point| point.1 *= factor),
                Load::Steady(interval) => *interval = interval.div_f64(factor),
                Load::Closed(users, _) => {
                    *users = libm::round(f64::from(*users) * factor).max(1.0) as u32;
                }
            });
        }
        Scaled::Trigger => {
            let (Some(begins), Some(over)) = (scenario.begins(), scenario.over()) else {
                return;
            };
            // What lies behind the end is as far behind it as before.
            let later = |at: Duration| {
                let behind = at.saturating_sub(over);
                begins + (at - behind - begins).mul_f64(factor) + behind
            };
            for Change { from, to, .. } in &mut scenario.timeline {
                *from = later(*from);
                *to = to.map(later);
            }
            for promise in &mut scenario.promises {
                if let Window::Between(span) = &mut promise.window
                    && span.from >= begins
                {
                    (span.from, span.to) = (later(span.from), later(span.to));
                }
            }
            scenario.lasts = later(scenario.lasts);
        }
    }
}

/// Nobody has that much head-room.
const MOST: f64 = 64.0;
const LEAST: f64 = 1.0 / 64.0;
/// As exactly as the point is found.
const EXACT: f64 = 0.02;
