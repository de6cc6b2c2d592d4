//! The limit without a setting: what the dependency serves at once without a queue of its own.
//!
//! By Little's law calls in flight are throughput times latency. While the dependency keeps up,
//! latency is that of an unhurried call, the *base*, whatever the load; beyond its capacity every
//! further call only waits in its queue, and latency grows in proportion. So capacity is
//! `in flight * base / latency`, and one look finds it.
//!
//! The two numbers are means of noisy calls, and the noise is what ruins such limits: a minimum of
//! means drifts down until the service idles, a moving average of an overload drifts up until it
//! drowns. Hence the laws here:
//! - the base is learnt from windows that cannot have queued, those in which at most half of the
//!   limit was used, and in a lasting overload from a *probe* at three quarters of the limit. If
//!   the probe is faster by nearly a third, the limit itself was too high, and comes down;
//! - the limit moves only on evidence: when the latency since the last move lies above (or below)
//!   the crowded line by more than one and a half standard errors of both means, and then as far as
//!   is certain. A single call's deviation is taken to be as large as its mean, as with exponential
//!   times; most services vary less;
//! - a window that follows a move is not looked at: its calls were admitted before;
//! - a base can be out of date, and says so: calls that surely take as long at half of a limit as at
//!   all of it do not wait for each other, what they take at the lowest limit is the base, and nobody
//!   is faster in a crowd than alone. So a service that is slow keeps its limit, and one that is well
//!   again has it back within a thousand windows, whatever was learnt (most often within twenty);
//! - when most calls time out, latency says nothing any more, and the limit shrinks.
//!
//! It grows by doubling until it is crowded for the first time, and after that by a twentieth, and
//! twice that each time it goes well. It never shrinks because of low traffic: a quiet hour proves
//! nothing about capacity, and the burst after it must not be refused.

use super::estimator::Sample;

#[derive(Clone, Debug)]
pub(super) struct Capacity {
    /// The latency of an unhurried call in nanoseconds; zero while unknown.
    base: f64,
    /// How many calls it rests on, at most [`BASE_CALLS`].
    base_calls: f64,
    /// Latencies since the last move.
    total: f64,
    calls: f64,
    /// What was there before a probe.
    before: Level,
    /// The share by which it grows next.
    growth: f64,
    phase: Phase,
    /// The limit before the last move.
    moved_from: f64,
    descent: Descent,
    /// Windows under pressure since the base was last seen, and how many are too many.
    pressed: u32,
    patience: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The coming window still holds calls of an earlier limit.
    Settling,
    Watching,
    /// As `Settling`, before a probe.
    Draining,
    Probing,
}

/// What moves down have shown.
#[derive(Clone, Copy, Debug)]
enum Descent {
    /// The last move was upwards.
    None,
    /// One move, from a latency that may have been rising still.
    Begun,
    /// Calls were crowded at this level, too.
    From(Level),
}

/// The latency at a limit.
#[derive(Clone, Copy, Debug)]
struct Level {
    limit: f64,
    mean: f64,
    calls: f64,
}

impl Level {
    /// Whether `below` is surely less of a gain than waiting in a queue explains. Half of what a
    /// queue would yield, in proportion, is the line.
    fn gains_nothing(self, below: Level) -> bool {
        let ratio = self.limit / below.limit;
        let error = ERRORS * (1.0 / self.calls + 1.0 / below.calls).sqrt();
        below.limit <= self.limit * PROBE_SHARE
            && self.mean / below.mean * (1.0 + error) < ratio.sqrt()
    }
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity {
            base: 0.0,
            base_calls: 0.0,
            total: 0.0,
            calls: 0.0,
            before: Level {
                limit: 1.0,
                mean: 0.0,
                calls: 1.0,
            },
            growth: RAMP,
            phase: Phase::Settling,
            moved_from: 0.0,
            descent: Descent::None,
            pressed: 0,
            patience: FIRST_PATIENCE,
        }
    }
}

impl Capacity {
    /// The limit to admit by: less than the estimate during a probe.
    pub(super) fn shown(&self, estimate: f64) -> f64 {
        match self.phase {
            Phase::Draining | Phase::Probing => estimate * PROBE_SHARE,
            Phase::Settling | Phase::Watching => estimate,
        }
    }

    /// How many calls the next window needs at this limit: after a move, all that were admitted
    /// before.
    pub(super) fn window(&self, limit: u32) -> u32 {
        let calls = match self.phase {
            Phase::Settling | Phase::Draining => limit.max(self.moved_from as u32),
            Phase::Watching | Phase::Probing => limit,
        };
        calls.max(LEAST_WINDOW)
    }

    /// The estimate after another window, which may not be less than `least`.
    pub(super) fn update(&mut self, now: f64, least: f64, sample: Sample) -> f64 {
        if sample.refused * REFUSALS > sample.calls || sample.timeouts * 2 > sample.calls {
            self.growth = GROWTH;
            self.descent = Descent::None;
            self.settle(now);
            return now * KEPT_AFTER_DROP;
        }
        match self.phase {
            Phase::Settling => self.phase = Phase::Watching,
            Phase::Draining => self.phase = Phase::Probing,
            Phase::Probing => return self.probe(now, sample),
            Phase::Watching if f64::from(sample.in_flight) * 2.0 <= now.floor() => {
                self.learn(sample);
                // A base that rests on a thousand unhurried calls is in no need of a probe soon.
                let known = (self.base_calls / CALLS_PER_PATIENCE) as u32;
                self.patience = self.patience.max(known);
                self.forget();
            }
            Phase::Watching => return self.watch(now, least, sample),
        }
        now
    }

    /// A window that used more than half of the limit.
    fn watch(&mut self, now: f64, least: f64, sample: Sample) -> f64 {
        if self.base_calls < BASE_LEAST {
            self.learn(sample);
            return now;
        }
        self.add(sample);
        self.correct(now < least + 1.0);
        let crowding = self.total / self.calls / self.base;
        let error = crowding * ERRORS * (1.0 / self.calls + 1.0 / self.base_calls).sqrt();
        let is_pressed = f64::from(sample.in_flight) >= now.floor() * 0.75;
        self.pressed += u32::from(is_pressed);
        if crowding - error > CROWDED {
            return self.shrink(now, least, crowding - error);
        }
        let ramps = self.growth == RAMP && crowding < RAMP_ENDS;
        let is_clear = crowding + error < CROWDED || self.calls > EVIDENCE && crowding < TARGET;
        if is_pressed && (ramps || is_clear) {
            let more = (now * self.growth).max(1.0);
            self.growth = (self.growth * 2.0).min(RAMP);
            self.descent = Descent::None;
            self.settle(now);
            return now + more;
        }
        if self.pressed >= self.patience {
            self.start_probe(now);
        } else if self.calls > EVIDENCE {
            (self.total, self.calls) = (self.total / 2.0, self.calls / 2.0);
        }
        now
    }

    /// It is crowded: down, unless that was of no use. Calls that take as long at the lowest limit, or
    /// at half of one, do not wait for each other: the service has become slower, and what they take
    /// is the base. Then it goes back to where it came from, and begins anew.
    fn shrink(&mut self, now: f64, least: f64, crowding: f64) -> f64 {
        let here = self.level(now);
        let (back, is_vain) = match self.descent {
            Descent::From(above) if above.gains_nothing(here) => (above.limit, true),
            _ => (now, now < least + 1.0),
        };
        if is_vain {
            (self.base, self.base_calls) = (here.mean, here.calls.min(BASE_CALLS));
            (self.growth, self.patience) = (RAMP, FIRST_PATIENCE);
            self.descent = Descent::None;
            self.settle(now);
            return back;
        }
        self.descent = match self.descent {
            Descent::None => Descent::Begun,
            _ if here.calls < DESCENT_CALLS => return now,
            Descent::Begun => Descent::From(here),
            from => from,
        };
        self.growth = GROWTH;
        self.settle(now);
        now * (TARGET / crowding).max(0.5)
    }

    /// Nobody is faster in a crowd: a base that lies surely above what is seen is out of date. And
    /// what is seen at the lowest limit is the base, if there is enough of it.
    fn correct(&mut self, is_least: bool) {
        let error = (1.0 / self.calls + 1.0 / self.base_calls).sqrt();
        let mean = self.total / self.calls;
        if mean / self.base < 1.0 - SURE * error || is_least && self.calls > EVIDENCE {
            (self.base, self.base_calls) = (mean, self.calls.min(BASE_CALLS));
        }
    }

    /// The latency since the last move.
    fn level(&self, limit: f64) -> Level {
        Level {
            limit: limit.floor(),
            mean: self.total / self.calls,
            calls: self.calls,
        }
    }

    fn start_probe(&mut self, now: f64) {
        self.before = self.level(now);
        (self.total, self.calls, self.pressed) = (0.0, 0.0, 0);
        self.moved_from = now;
        self.phase = Phase::Draining;
    }

    /// A window of a probe. Latency at three quarters of the limit is the base: one that agrees
    /// makes it surer, one that does not takes half of its place, and the next probe comes soon. If
    /// calls were so much faster that all the last quarter did was wait, the limit comes down, and
    /// the next probe follows at once.
    fn probe(&mut self, now: f64, sample: Sample) -> f64 {
        self.add(sample);
        let is_old = self.patience >= LAST_PATIENCE;
        let is_unclear = is_old && self.before.mean > self.base * TARGET;
        let needed = if is_unclear {
            UNCLEAR_PROBE_CALLS
        } else {
            PROBE_CALLS
        };
        if self.calls < needed {
            return now;
        }
        let here = self.level(self.shown(now));
        let Level { mean, calls, .. } = here;
        let gain = self.before.mean / mean;
        let queues = gain - 2.0 * (1.0 / calls + 1.0 / self.before.calls).sqrt() > QUEUES;
        let error = (1.0 / calls + 1.0 / self.base_calls).sqrt();
        if is_unclear && self.before.gains_nothing(here) {
            self.base_calls = 0.0;
        } else if (mean / self.base - 1.0).abs() < 2.0 * error {
            self.patience = (self.patience * 2).min(LAST_PATIENCE);
        } else {
            self.base_calls = self.base_calls.min(calls);
            self.patience = FIRST_PATIENCE;
        }
        self.average(mean, calls);
        if queues {
            self.growth = GROWTH;
            self.start_probe(now);
            return now * PROBE_SHARE;
        }
        self.settle(now);
        now
    }

    fn add(&mut self, sample: Sample) {
        let calls = f64::from(sample.calls);
        self.total += latency(sample) * calls;
        self.calls += calls;
    }

    /// Averages a window into the base.
    fn learn(&mut self, sample: Sample) {
        self.average(latency(sample), f64::from(sample.calls));
    }

    fn average(&mut self, took: f64, calls: f64) {
        self.base_calls = (self.base_calls + calls).min(BASE_CALLS);
        self.base += (took - self.base) * (calls / self.base_calls).min(1.0);
    }

    /// The limit moves.
    fn settle(&mut self, now: f64) {
        (self.total, self.calls) = (0.0, 0.0);
        self.moved_from = now;
        self.phase = Phase::Settling;
    }

    /// The base has just been seen.
    fn forget(&mut self) {
        (self.total, self.calls, self.pressed) = (0.0, 0.0, 0);
    }
}

/// In nanoseconds, and never nothing: it is divided by.
fn latency(sample: Sample) -> f64 {
    sample.took.as_nanos().max(1) as f64
}

/// How many standard errors are evidence. With fewer the limit follows the noise, with more it
/// comes too late.
const ERRORS: f64 = 1.5;
/// How many are beyond doubt: the base is looked at in every window.
const SURE: f64 = 3.0;
/// The crowded line. A limit that is a tenth too high costs calls a tenth of their time, one that is
/// a tenth too low costs a tenth of the capacity: the line lies on the side of the former.
const CROWDED: f64 = 1.15;
/// Where a crowded limit moves to.
const TARGET: f64 = 1.1;
/// Doubling, until it is crowded for the first time.
const RAMP: f64 = 1.0;
/// While it doubles, less evidence will do.
const RAMP_ENDS: f64 = 1.2;
/// The first growth after it was crowded.
const GROWTH: f64 = 0.05;
/// One refusal in so many calls is its answer to too much load.
const REFUSALS: u32 = 20;
/// What refusals and timeouts leave: a little less than with AIMD, since it moves at once.
const KEPT_AFTER_DROP: f64 = 0.8;
/// What the limit did so many calls ago is forgotten by half.
const EVIDENCE: f64 = 1024.0;
/// Enough to tell half of the latency from all of it: the error of their ratio is a fifth.
const DESCENT_CALLS: f64 = 64.0;
/// A window of a small limit.
const LEAST_WINDOW: u32 = 16;
/// A base of fewer calls is no base.
const BASE_LEAST: f64 = 64.0;
/// A base of so many has an error of a thirtieth at most, and still follows a dependency that has
/// become slower for good.
const BASE_CALLS: f64 = 1024.0;
/// Low enough to be below capacity if the limit is not far above it; higher would show less.
const PROBE_SHARE: f64 = 0.75;
/// Long enough for an error of an eighth, short enough to cost a dozen calls.
const PROBE_CALLS: f64 = 64.0;
/// Enough to see that a quarter less is no gain, where latency lies so little above the base that
/// it may be the base that is wrong.
const UNCLEAR_PROBE_CALLS: f64 = 192.0;
/// Halfway between a limit that does not queue (1) and one of which a quarter does (4/3).
const QUEUES: f64 = 1.15;
/// The first probe comes soon, because a base learnt under load is the least sure.
const FIRST_PATIENCE: u32 = 8;
/// A base of so many calls is worth a window of patience: 1,024 are worth 64.
const CALLS_PER_PATIENCE: f64 = 16.0;
/// Later ones cost half a percent of the capacity.
const LAST_PATIENCE: u32 = 256;

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
