//! What is depended on: a service with workers, a queue and replicas.
//!
//! A request waits for a worker of its replica, is worked on for as long as its law says over how
//! fast the replica is then, makes the calls that belong to it, and is answered.
//! The worker is taken for all of that time, as a thread is that waits for a database.
//!
//! Most services do not notice that a caller has gone: they work on, in vain. Others look before they
//! begin, or stop at once.

use std::collections::VecDeque;
use std::time::Duration;

use outlast_core::time::Time;

use crate::curve::Curve;
use crate::law::Law;
use crate::slab::Ref;
use crate::{ServiceId, UpstreamId};

/// A service, as it is modelled.
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) work: Law,
    pub(crate) replicas: u32,
    pub(crate) workers: Option<u32>,
    pub(crate) order: Order,
    pub(crate) queue: Option<u32>,
    pub(crate) failures: f64,
    pub(crate) declines: f64,
    pub(crate) lost: f64,
    pub(crate) keeps_keys: bool,
    pub(crate) gone: Gone,
    pub(crate) speed: Curve,
    pub(crate) refusal: Refusal,
    pub(crate) ready_with: Vec<usize>,
    pub(crate) liveness: Option<Liveness>,
    /// By the kind of the request.
    pub(crate) calls: Vec<Steps>,
}

/// Calls one after the other; those of one item at once. Each by the number of the replica.
pub(crate) type Steps = Vec<Vec<Vec<usize>>>;

/// What a caller hears who is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing: there is no connection, and nothing was sent.
    #[default]
    Unsent,
    /// That it is too much, as by a 503 without more.
    Overload,
    /// To come back after so long, and up to so much longer at random (Retry-After).
    ComeBack {
        /// At least.
        after: Duration,
        /// Up to so much longer.
        spread: Duration,
    },
}

/// What becomes of a request that nobody waits for any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gone {
    /// It is worked on like any other.
    #[default]
    WorksOn,
    /// It is dropped when its turn would come.
    Skips,
    /// It is dropped at once, also from a worker.
    Stops,
}

/// Who is served next of those who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Who came first.
    #[default]
    Fifo,
    /// Who came last.
    Lifo,
}

impl Service {
    /// One replica that works on any number of requests at once, each as long as the law says, and
    /// never fails.
    pub fn new(work: Law) -> Service {
        Service {
            work,
            replicas: 1,
            workers: None,
            order: Order::Fifo,
            queue: None,
            failures: 0.0,
            declines: 0.0,
            lost: 0.0,
            keeps_keys: true,
            gone: Gone::WorksOn,
            speed: Curve::level(1.0),
            refusal: Refusal::Unsent,
            ready_with: Vec::new(),
            liveness: None,
            calls: vec![Steps::new()],
        }
    }

    /// Requests at once per replica, at least 1. Default: any number.
    pub fn workers(mut self, workers: u32) -> Service {
        self.workers = Some(workers.max(1));
        self
    }

    /// Who is served next of those who wait. Default: who came first.
    pub fn order(mut self, order: Order) -> Service {
        self.order = order;
        self
    }

    /// So many may wait per replica; more are refused at once. Default: any number.
    pub fn queue(mut self, queue: u32) -> Service {
        self.queue = Some(queue);
        self
    }

    /// Equal machines with workers and a queue each; at least 1, which is the default.
    pub fn replicas(mut self, replicas: u32) -> Service {
        self.replicas = replicas.max(1);
        self
    }

    /// The share of requests that fail after they were worked on. Default 0.
    pub fn failures(mut self, share: f64) -> Service {
        self.failures = share.clamp(0.0, 1.0);
        self
    }

    /// The share of requests that it declines for good after they were worked on, as what is out of
    /// stock; steps of sagas as often as they are asked for, and never what undoes one. Default 0.
    pub fn declines(mut self, share: f64) -> Service {
        self.declines = share.clamp(0.0, 1.0);
        self
    }

    /// The share of requests that are worked on and whose answer is lost: the connection is cut, and
    /// nobody knows whether they were. Default 0.
    pub fn lost(mut self, share: f64) -> Service {
        self.lost = share.clamp(0.0, 1.0);
        self
    }

    /// It does the work of a saga's step as often as it is asked, as one that knows nothing of idempotency
    /// keys. Default: once for one key, and never after it was asked to undo it.
    pub fn forgets_keys(mut self) -> Service {
        self.keeps_keys = false;
        self
    }

    /// What it does with a request whose caller has gone. Default: it works on.
    pub fn gone(mut self, gone: Gone) -> Service {
        self.gone = gone;
        self
    }

    /// How fast it works, as a share of the law's; what a request finds when it is begun counts for
    /// all of it. At 0 nothing is begun until it is faster. Default 1.
    pub fn speed(mut self, speed: Curve) -> Service {
        self.speed = speed;
        self
    }

    /// Each request, of the kind that was begun last, makes a call through this upstream before it is answered, after those that were
    /// added before. It fails if one of them does.
    pub fn calls(self, upstream: UpstreamId) -> Service {
        self.calls_at_once(&[vec![upstream]])
    }

    /// Each request makes these calls at once, after those that were added before. The upstreams of
    /// an item are the replicas', which have policies of their own; if there are less, they are used
    /// in turn. When one fails, the others are given up.
    ///
    /// # Panics
    /// If an item is empty.
    pub fn calls_at_once(mut self, calls: &[Vec<UpstreamId>]) -> Service {
        let numbers = |call: &Vec<UpstreamId>| {
            assert!(!call.is_empty(), "an upstream to call through");
            call.iter().map(|upstream| upstream.0).collect()
        };
        let kind = self.calls.last_mut().expect("there is a first kind");
        kind.push(calls.iter().map(numbers).collect());
        self
    }

    /// Calls that are added from now on are those of requests of one more kind: the first are of kind
    /// 0, those after this of kind 1. All kinds share the workers and the queue. Of what kind a request
    /// is says the place it comes through ([`Place::kind`](crate::Place::kind)).
    pub fn another_kind(mut self) -> Service {
        self.calls.push(Steps::new());
        self
    }

    /// It says that it is ready, to active checks of upstreams, only while none of these services is
    /// away. Default: while it is not away itself.
    pub fn ready_with(mut self, services: &[ServiceId]) -> Service {
        self.ready_with = services.iter().map(|service| service.0).collect();
        self
    }

    /// Replicas are watched, and restarted when they seem to be dead. Default: they are not.
    pub fn liveness(mut self, liveness: Liveness) -> Service {
        self.liveness = Some(liveness);
        self
    }

    /// What those hear who find no room in the queue, or a service that is away. Default: nothing,
    /// as there is no connection.
    pub fn refusal(mut self, refusal: Refusal) -> Service {
        self.refusal = refusal;
        self
    }
}

/// Who restarts replicas, and when: the liveness probe of an orchestrator.
#[derive(Clone, Debug)]
pub struct Liveness {
    pub(crate) needs: Vec<usize>,
    pub(crate) every: Duration,
    pub(crate) failures: u32,
    pub(crate) restart: Duration,
    pub(crate) warms: (f64, Duration),
}

impl Liveness {
    /// A replica says that it is alive only while none of these services is away. It is asked every
    /// 10 s, restarted after 3 failures, and away for 30 s then.
    pub fn new(needs: &[ServiceId]) -> Liveness {
        Liveness {
            needs: needs.iter().map(|service| service.0).collect(),
            every: Duration::from_secs(10),
            failures: 3,
            restart: Duration::from_secs(30),
            warms: (1.0, Duration::ZERO),
        }
    }

    /// How often a replica is asked, at least every millisecond; replicas at different times.
    pub fn every(mut self, interval: Duration) -> Liveness {
        self.every = interval.max(Duration::from_millis(1));
        self
    }

    /// How many failures in a row restart it, at least 1.
    pub fn failures(mut self, failures: u32) -> Liveness {
        self.failures = failures.max(1);
        self
    }

    /// How long a restart takes.
    pub fn restart(mut self, takes: Duration) -> Liveness {
        self.restart = takes;
        self
    }

    /// With what share of its speed it comes back, and how long it takes to get to all of it.
    /// Default: with all of it.
    pub fn warms(mut self, from: f64, over: Duration) -> Liveness {
        self.warms = (from, over);
        self
    }
}

/// What happens to a service at a time, by no policy's doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Every request is refused at once, as by a machine that is there and a process that is not;
    /// those that are worked on fail. Or no more.
    Refuses(bool),
    /// Nothing comes through, in neither direction, and comes when this is over: a network that is
    /// interrupted. Or no more.
    Holds(bool),
    /// Another share fails.
    Failures(f64),
    /// Another share is declined for good.
    Declines(f64),
    /// Another share of answers is lost.
    Lost(f64),
    /// It works at this share of its speed.
    Speed(f64),
    /// It works at a share of its speed that rises in a line to all of it: caches that fill. What
    /// `Speed` leaves of it is another share.
    Warms {
        /// The share it begins with.
        from: f64,
        /// How long that takes.
        over: Duration,
    },
}

/// A replica, as it stands.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) refuses: bool,
    pub(crate) holds: bool,
    /// Away, because it has been restarted.
    pub(crate) restarts: bool,
    /// How often in a row it has seemed to be dead.
    pub(crate) dead: u32,
    pub(crate) failures: f64,
    pub(crate) declines: f64,
    pub(crate) lost: f64,
    /// As a share of the service's speed.
    pub(crate) pace: Pace,
    /// The share that cold caches leave of that.
    pub(crate) warmth: Pace,
    /// Whether it is going to be looked at, as it stands still.
    pub(crate) looks: bool,
    pub(crate) busy: u32,
    pub(crate) waiting: VecDeque<Ref>,
    /// How many of those who waited were dropped, and are still in the line.
    pub(crate) dropped: usize,
    /// What came, or would have gone, while it holds.
    pub(crate) held: Vec<Ref>,
}

impl Replica {
    pub(crate) fn new(service: &Service) -> Replica {
        Replica {
            refuses: false,
            holds: false,
            restarts: false,
            dead: 0,
            failures: service.failures,
            declines: service.declines,
            lost: service.lost,
            pace: Pace::of(1.0),
            warmth: Pace::of(1.0),
            looks: false,
            busy: 0,
            waiting: VecDeque::new(),
            dropped: 0,
            held: Vec::new(),
        }
    }

    /// Nobody gets an answer from it.
    pub(crate) fn is_away(&self) -> bool {
        self.refuses || self.restarts || self.holds
    }

    pub(crate) fn speed(&self, service: &Service, now: Time) -> f64 {
        service.speed.at(now) * self.pace.at(now) * self.warmth.at(now)
    }

    /// Whether it gets faster by itself if it stands still now.
    pub(crate) fn rises(&self, service: &Service, now: Time) -> bool {
        let left = self.pace.at(Time::MAX) * self.warmth.at(Time::MAX);
        left > 0.0 && service.speed.rises_after(now)
    }

    pub(crate) fn has_worker(&self, service: &Service) -> bool {
        service.workers.is_none_or(|workers| self.busy < workers)
    }

    pub(crate) fn has_room(&self, service: &Service) -> bool {
        let waiting = self.waiting.len() - self.dropped;
        service.queue.is_none_or(|queue| waiting < queue as usize)
    }

    /// Who is served next.
    pub(crate) fn next(&mut self, order: Order) -> Option<Ref> {
        match order {
            Order::Fifo => self.waiting.pop_front(),
            Order::Lifo => self.waiting.pop_back(),
        }
    }
}

/// A share that rises in a line to 1, or does not change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    from: f64,
    since: Time,
    over: Duration,
}

impl Pace {
    pub(crate) fn of(share: f64) -> Pace {
        let share = if share.is_finite() {
            share.max(0.0)
        } else {
            1.0
        };
        Pace {
            from: share,
            since: Time::MAX,
            over: Duration::MAX,
        }
    }

    pub(crate) fn warms(from: f64, since: Time, over: Duration) -> Pace {
        Pace {
            since,
            over,
            ..Pace::of(from.min(1.0))
        }
    }

    pub(crate) fn at(self, now: Time) -> f64 {
        if now < self.since {
            return self.from;
        }
        let way = now.since(self.since).as_secs_f64() / self.over.as_secs_f64().max(1e-9);
        self.from + (1.0 - self.from) * way.min(1.0)
    }
}

/// How a service did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceReport {
    /// Requests that came.
    pub came: u64,
    /// Requests that were refused at once.
    pub refused: u64,
    /// Requests that were answered, well or not.
    pub answered: u64,
    /// Requests that were worked on to the end for a caller who had gone.
    pub wasted: u64,
    /// Requests that were begun after their deadline.
    pub late: u64,
    /// The most requests at once, waiting or worked on.
    pub peak: u64,
    /// Requests that had to wait for a worker.
    pub waited: u64,
    /// How long requests waited for a worker, all together.
    pub waits: Duration,
    /// How long requests were there, all together, of those that have gone.
    pub stays: Duration,
    /// Requests times seconds: over the time that was measured this is how many there were in the
    /// mean.
    pub presence: f64,
}

/// What is counted of a service while time passes.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) report: ServiceReport,
    present: u64,
    /// The most since it was last asked for.
    peak: u64,
    /// Until when it is known how many were there, in the time that counts.
    since: Time,
    end: Time,
}

impl Meter {
    /// Counts from one time to another.
    pub(crate) fn new(from: Time, end: Time) -> Meter {
        Meter {
            report: ServiceReport::default(),
            present: 0,
            peak: 0,
            since: from,
            end,
        }
    }

    /// One comes, or goes.
    pub(crate) fn moves(&mut self, comes: bool, now: Time) {
        self.pass(now);
        self.present = if comes {
            self.present + 1
        } else {
            self.present - 1
        };
        self.peak = self.peak.max(self.present);
        if now >= self.since {
            self.report.peak = self.report.peak.max(self.present);
        }
    }

    /// The most requests at once since this was last asked.
    pub(crate) fn peak(&mut self) -> u64 {
        std::mem::replace(&mut self.peak, self.present)
    }

    fn pass(&mut self, now: Time) {
        let until = now.min(self.end);
        if until > self.since {
            let lasted = until.since(self.since).as_secs_f64();
            self.report.presence += self.present as f64 * lasted;
            self.since = until;
        }
    }

    /// What was counted.
    pub(crate) fn end(mut self) -> ServiceReport {
        self.pass(self.end);
        self.report
    }
}
