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
    /// Mean and number of the latencies before a probe.
    before: (f64, f64),
    /// The share by which it grows next.
    growth: f64,
    phase: Phase,
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

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity {
            base: 0.0,
            base_calls: 0.0,
            total: 0.0,
            calls: 0.0,
            before: (0.0, 1.0),
            growth: RAMP,
            phase: Phase::Settling,
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

    /// The estimate after another window.
    pub(super) fn update(&mut self, now: f64, sample: Sample) -> f64 {
        if sample.refused * REFUSALS > sample.calls || sample.timeouts * 2 > sample.calls {
            self.growth = GROWTH;
            self.settle();
            return now * KEPT_AFTER_DROP;
        }
        match self.phase {
            Phase::Settling => self.phase = Phase::Watching,
            Phase::Draining => self.phase = Phase::Probing,
            Phase::Probing => return self.probe(now, sample),
            Phase::Watching if f64::from(sample.in_flight) * 2.0 <= now => {
                self.learn(sample);
                // A base that rests on a thousand unhurried calls is in no need of a probe soon.
                let known = (self.base_calls / CALLS_PER_PATIENCE) as u32;
                self.patience = self.patience.max(known);
                self.forget();
            }
            Phase::Watching => return self.watch(now, sample),
        }
        now
    }

    /// A window that used more than half of the limit.
    fn watch(&mut self, now: f64, sample: Sample) -> f64 {
        if self.base_calls < BASE_LEAST {
            self.learn(sample);
            return now;
        }
        self.add(sample);
        let crowding = self.total / self.calls / self.base;
        let error = crowding * ERRORS * (1.0 / self.calls + 1.0 / self.base_calls).sqrt();
        let is_pressed = f64::from(sample.in_flight) >= now * 0.75;
        self.pressed += u32::from(is_pressed);
        if crowding - error > CROWDED {
            self.growth = GROWTH;
            self.settle();
            return now * (TARGET / (crowding - error)).max(0.5);
        }
        let ramps = self.growth == RAMP && crowding < RAMP_ENDS;
        if is_pressed && (ramps || crowding + error < CROWDED) {
            let more = (now * self.growth).max(1.0);
            self.growth = (self.growth * 2.0).min(RAMP);
            self.settle();
            return now + more;
        }
        if self.pressed >= self.patience {
            self.start_probe();
        } else if self.calls > EVIDENCE {
            (self.total, self.calls) = (self.total / 2.0, self.calls / 2.0);
        }
        now
    }

    fn start_probe(&mut self) {
        self.before = (self.total / self.calls, self.calls);
        (self.total, self.calls, self.pressed) = (0.0, 0.0, 0);
        self.phase = Phase::Draining;
    }

    /// A window of a probe. Latency at three quarters of the limit is the base: one that agrees
    /// makes it surer, one that does not takes half of its place, and the next probe comes soon. If
    /// calls were so much faster that all the last quarter did was wait, the limit comes down, and
    /// the next probe follows at once.
    fn probe(&mut self, now: f64, sample: Sample) -> f64 {
        self.add(sample);
        if self.calls < PROBE_CALLS {
            return now;
        }
        let (mean, calls) = (self.total / self.calls, self.calls);
        let gain = self.before.0 / mean;
        let queues = gain - 2.0 * (1.0 / calls + 1.0 / self.before.1).sqrt() > QUEUES;
        let error = (1.0 / calls + 1.0 / self.base_calls).sqrt();
        if (mean / self.base - 1.0).abs() < 2.0 * error {
            self.patience = (self.patience * 2).min(LAST_PATIENCE);
        } else {
            self.base_calls = self.base_calls.min(calls);
            self.patience = FIRST_PATIENCE;
        }
        self.average(mean, calls);
        if queues {
            self.growth = GROWTH;
            self.start_probe();
            return now * PROBE_SHARE;
        }
        self.settle();
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

    /// The limit has moved.
    fn settle(&mut self) {
        (self.total, self.calls) = (0.0, 0.0);
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
/// A base of fewer calls is no base.
const BASE_LEAST: f64 = 64.0;
/// A base of so many has an error of a thirtieth at most, and still follows a dependency that has
/// become slower for good.
const BASE_CALLS: f64 = 1024.0;
/// Low enough to be below capacity if the limit is not far above it; higher would show less.
const PROBE_SHARE: f64 = 0.75;
/// Long enough for an error of an eighth, short enough to cost a dozen calls.
const PROBE_CALLS: f64 = 64.0;
/// Halfway between a limit that does not queue (1) and one of which a quarter does (4/3).
const QUEUES: f64 = 1.15;
/// The first probe comes soon, because a base learnt under load is the least sure.
const FIRST_PATIENCE: u32 = 8;
/// A base of so many calls is worth a window of patience: 1,024 are worth 64.
const CALLS_PER_PATIENCE: f64 = 16.0;
/// Later ones cost half a percent of the capacity.
const LAST_PATIENCE: u32 = 256;
