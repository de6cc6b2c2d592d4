//! Who asks: clients, and what became of their calls.

use std::time::Duration;

use hdrhistogram::Histogram;
use outlast_core::reject::Reason;
use outlast_core::tier::Tier;
use outlast_core::time::Time;

use crate::UpstreamId;
use crate::curve::Curve;
use crate::law::Law;
use crate::times::Times;

/// Clients that are alike.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) upstreams: Vec<usize>,
    pub(crate) load: Load,
    pub(crate) deadline: Option<Duration>,
    pub(crate) tier: Tier,
    pub(crate) repeatable: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Load {
    Open(Curve),
    Steady(Duration),
    Closed { users: u32, thinks: Law },
}

impl Client {
    /// Calls at random, independently of each other and of what becomes of them (a Poisson process):
    /// so many a second.
    pub fn open(upstream: UpstreamId, rate: Curve) -> Client {
        Client::new(upstream, Load::Open(rate))
    }

    /// A call at each of these intervals.
    pub fn steady(upstream: UpstreamId, interval: Duration) -> Client {
        Client::new(upstream, Load::Steady(interval))
    }

    /// So many users, each of whom waits for an answer, thinks, and calls again.
    pub fn closed(upstream: UpstreamId, users: u32, thinks: Law) -> Client {
        Client::new(upstream, Load::Closed { users, thinks })
    }

    fn new(upstream: UpstreamId, load: Load) -> Client {
        Client {
            upstreams: vec![upstream.0],
            load,
            deadline: None,
            tier: Tier::default(),
            repeatable: true,
        }
    }

    /// Many that are alike, each with policies of its own: a call goes through its upstream or one of
    /// these, at random; of `closed` users each keeps to one, and `steady` calls take turns. The load
    /// is that of all together.
    pub fn or_through(mut self, others: &[UpstreamId]) -> Client {
        self.upstreams.extend(others.iter().map(|other| other.0));
        self
    }

    /// How long each waits for an answer; what comes later is no good. Default: for ever.
    pub fn deadline(mut self, deadline: Duration) -> Client {
        self.deadline = Some(deadline);
        self
    }

    /// How much its calls matter. Default [`Tier::Important`].
    pub fn tier(mut self, tier: Tier) -> Client {
        self.tier = tier;
        self
    }

    /// Whether its calls may be made twice. Default: they may.
    pub fn repeatable(mut self, repeatable: bool) -> Client {
        self.repeatable = repeatable;
        self
    }
}

/// What became of a client's calls.
#[derive(Clone, Debug)]
pub struct ClientReport {
    /// Calls that began.
    pub calls: u64,
    /// Calls that were answered well, and in time.
    pub good: u64,
    /// Calls whose last attempt failed.
    pub failed: u64,
    /// Calls that a policy ended, by [`Reason::index`]'s order of [`Reason::ALL`].
    pub rejected: [u64; Reason::ALL.len()],
    /// Attempts that were made for them.
    pub attempts: u64,
    /// From the call to its answer, of good ones.
    pub latency: Latency,
    /// By the second in which calls began.
    pub seconds: Vec<Second>,
    /// Latencies of good calls, by the second in which they began, if [`Model::sample`] was called.
    ///
    /// [`Model::sample`]: crate::Model::sample
    pub times: Vec<Times>,
}

/// What began in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Calls.
    pub calls: u32,
    /// Those of them that were good in the end.
    pub good: u32,
    /// Attempts, whenever their calls began.
    pub attempts: u32,
    /// When the last attempt of its calls was made, from the start of the run.
    pub last_attempt: Duration,
}

impl ClientReport {
    pub(crate) fn new() -> ClientReport {
        ClientReport {
            calls: 0,
            good: 0,
            failed: 0,
            rejected: [0; Reason::ALL.len()],
            attempts: 0,
            latency: Latency::new(),
            seconds: Vec::new(),
            times: Vec::new(),
        }
    }

    pub(crate) fn second(&mut self, at: Time) -> &mut Second {
        let second = (at.as_nanos() / 1_000_000_000) as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, Second::default());
        }
        &mut self.seconds[second]
    }

    pub(crate) fn note_time(&mut self, began: Time, took: Duration) {
        let second = (began.as_nanos() / 1_000_000_000) as usize;
        if self.times.len() <= second {
            self.times.resize(second + 1, Times::default());
        }
        self.times[second].note(took);
    }

    /// The share of calls that were good.
    pub fn success(&self) -> f64 {
        self.good as f64 / self.calls as f64
    }

    /// Attempts per call.
    pub fn amplification(&self) -> f64 {
        self.attempts as f64 / self.calls as f64
    }

    /// Calls that a policy ended, for any reason.
    pub fn rejections(&self) -> u64 {
        self.rejected.iter().sum()
    }
}

/// Latencies: the mean exactly, quantiles to one in a thousand.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
    sum: u128,
}

impl Latency {
    pub(crate) fn new() -> Latency {
        let histogram = Histogram::new(3).expect("three digits are supported");
        Latency { histogram, sum: 0 }
    }

    pub(crate) fn note(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum += u128::from(nanos);
        let noted = self.histogram.record(nanos);
        noted.expect("it grows to whatever is noted");
    }

    /// Adds those of another.
    pub(crate) fn add(&mut self, other: &Latency) {
        self.sum += other.sum;
        let added = self.histogram.add(&other.histogram);
        added.expect("it grows to whatever is noted");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Their mean; zero for none.
    pub fn mean(&self) -> Duration {
        let mean = self.sum / u128::from(self.count()).max(1);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The share of them that do not exceed a limit; 0 for none.
    pub fn within(&self, limit: Duration) -> f64 {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let within = self.histogram.count_between(0, nanos);
        within as f64 / self.count().max(1) as f64
    }

    /// What a share of them does not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(share))
    }
}
