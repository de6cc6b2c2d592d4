//! Passive ejection: endpoints that answer worse than the others are left alone for a while.
//!
//! A breaker looks at one endpoint by itself. Ejection compares endpoints with each other, and
//! minds how many are left. It ejects for one of three reasons: failures in a row, a success rate
//! far below the mean, or times far above the median. The first ejection lasts 30 s, each further
//! one 30 s longer, up to 300 s; time spent in service takes the count down again.
//!
//! **The law**: at no time are more than `max_share` of the endpoints ejected, nor all of them. One
//! always may be if there is another. Envoy's bound of 10 % lets a pool of ten lose one endpoint:
//! when two are dead, a tenth of all attempts keeps failing for as long as it lasts. Half is where
//! the balancer's panic threshold starts to doubt the evidence itself.
//!
//! What came before an ejection never counts after it: an endpoint that returns has its full number
//! of failures again, and late results of attempts from before are dropped. What Outlast itself
//! refused is never counted, nor is an endpoint's request for less load.
//!
//! It is evaluated when attempts end and when its owner's time comes; it has no thread. It does not
//! probe: an ejected endpoint comes back by time alone. A check that passes says nothing about why
//! calls failed (it passed all the while), so it does not shorten an ejection.

mod config;
mod outlier;
mod tally;

use std::time::Duration;

pub use config::Config;
pub(crate) use tally::{Sample, Tally};

use crate::config::ConfigError;
use crate::time::{Time, nanos};

/// Who is ejected, of one set of endpoints. Its owner keeps a [`Tally`] per endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Ejector {
    config: Config,
    states: Vec<State>,
    out: usize,
    compared: Time,
    spared: u64,
}

/// One endpoint. `times` is how often it was ejected, less what good behaviour took off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    In {
        since: Time,
        times: u32,
    },
    Out {
        until: Time,
        times: u32,
        reason: Reason,
    },
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It failed so many times in a row.
    Consecutive,
    /// Its success rate lay far below that of the others.
    SuccessRate,
    /// It took far longer than the others.
    Latency,
}

impl Reason {
    /// A stable snake_case name for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Consecutive => "consecutive",
            Reason::SuccessRate => "success_rate",
            Reason::Latency => "latency",
        }
    }
}

/// What may happen to an endpoint.
#[derive(Clone, Copy, Debug)]
enum Input {
    Misbehaved(Reason),
    TimePassed,
    Released,
}

/// An endpoint was ejected or is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Ejected { reason: Reason, until: Time },
    Returned,
}

impl Ejector {
    /// All are in service.
    pub(crate) fn new(config: Config, endpoints: usize, now: Time) -> Result<Ejector, ConfigError> {
        config.check()?;
        Ok(Ejector {
            config,
            states: vec![
                State::In {
                    since: now,
                    times: 0
                };
                endpoints
            ],
            out: 0,
            compared: now,
            spared: 0,
        })
    }

    /// Goes on from where another ejector stands, which has the same endpoints in part: `places`
    /// are their numbers here and there. An ejection that the bound no longer allows has ended.
    pub(crate) fn follow(&mut self, other: &Ejector, places: &[(usize, usize)]) {
        self.compared = other.compared;
        self.spared = other.spared;
        for &(here, there) in places {
            let state = other.states[there];
            let is_out = matches!(state, State::Out { .. });
            if !is_out || self.out < self.config.limit(self.states.len()) {
                self.out += usize::from(is_out);
                self.states[here] = state;
            }
        }
    }

    /// Whether it is ejected, be it in shadow mode.
    fn is_out(&self, endpoint: usize) -> bool {
        matches!(self.states[endpoint], State::Out { .. })
    }

    /// Until when it is ejected, be it in shadow mode.
    pub(crate) fn out_until(&self, endpoint: usize) -> Option<Time> {
        match self.states[endpoint] {
            State::In { .. } => None,
            State::Out { until, .. } => Some(until),
        }
    }

    /// Whether ejection really takes endpoints out of service.
    pub(crate) fn is_enforced(&self) -> bool {
        self.config.is_enforced()
    }

    /// How often the bound kept an endpoint in service.
    pub(crate) fn spared(&self) -> u64 {
        self.spared
    }

    /// Whether a run of failures has just become too long; again at each multiple, for one that was
    /// spared.
    #[inline]
    pub(crate) fn condemns(config: &Config, run: u32) -> bool {
        let limit = config.consecutive;
        run > 0 && limit.is_some_and(|limit| run.is_multiple_of(limit))
    }

    /// An endpoint failed too often in a row.
    pub(crate) fn misbehaved(&mut self, endpoint: usize, now: Time) -> Option<Change> {
        self.change(endpoint, Input::Misbehaved(Reason::Consecutive), now)
    }

    /// An operator knows better: it is back in service, with a clean record.
    pub(crate) fn release(&mut self, endpoint: usize, now: Time) -> Option<Change> {
        self.change(endpoint, Input::Released, now)
    }

    /// Lets time do its work: whose ejection is over returns, and when an interval has passed the
    /// endpoints are compared. `take` gives the results of one since the last comparison.
    pub(crate) fn timeout(
        &mut self,
        now: Time,
        take: impl Fn(usize) -> Sample,
        mut changed: impl FnMut(usize, Change),
    ) {
        for endpoint in 0..self.states.len() {
            if let Some(change) = self.change(endpoint, Input::TimePassed, now) {
                changed(endpoint, change);
            }
        }
        if self.compares() && now >= self.compared + self.config.interval {
            self.compared = now;
            for (endpoint, reason) in self.outliers(take) {
                if let Some(change) = self.change(endpoint, Input::Misbehaved(reason), now) {
                    changed(endpoint, change);
                }
            }
        }
    }

    /// When [`Ejector::timeout`] has something to do.
    pub(crate) fn wakes(&self) -> Time {
        let over = self.states.iter().filter_map(|state| match state {
            State::In { .. } => None,
            State::Out { until, .. } => Some(*until),
        });
        let comparison = self
            .compares()
            .then(|| self.compared + self.config.interval);
        over.chain(comparison).min().unwrap_or(Time::MAX)
    }

    fn compares(&self) -> bool {
        self.config.success_rate.is_some() || self.config.latency.is_some()
    }

    /// Who is in service and differs from the others, the worst first.
    fn outliers(&self, take: impl Fn(usize) -> Sample) -> Vec<(usize, Reason)> {
        let config = &self.config;
        let mut samples: Vec<_> = (0..self.states.len())
            .map(|endpoint| (endpoint, take(endpoint)))
            .collect();
        samples.retain(|(endpoint, sample)| {
            !self.is_out(*endpoint) && sample.attempts >= u64::from(config.min_attempts)
        });
        let failing = config.success_rate.map(|factor| {
            let least = config.min_endpoints as usize;
            outlier::by_success(&samples, factor, config.margin.as_f64(), least)
        });
        let slow = config
            .latency
            .map(|factor| outlier::by_latency(&samples, factor, FEWEST_TIMES));
        let named = |found: Option<Vec<outlier::Outlier>>, reason| {
            let found = found.into_iter().flatten();
            found.map(move |outlier| (outlier.endpoint, reason))
        };
        named(failing, Reason::SuccessRate)
            .chain(named(slow, Reason::Latency))
            .collect()
    }

    /// All changes of state are made here.
    fn change(&mut self, endpoint: usize, input: Input, now: Time) -> Option<Change> {
        match (self.states[endpoint], input) {
            (State::In { since, times }, Input::Misbehaved(reason)) => {
                if self.out >= self.config.limit(self.states.len()) {
                    self.spared += 1;
                    return None;
                }
                let times = self.remembered(since, times, now).saturating_add(1);
                let until = now + self.duration(times);
                self.out += 1;
                self.states[endpoint] = State::Out {
                    until,
                    times,
                    reason,
                };
                Some(Change::Ejected { reason, until })
            }
            (State::Out { until, times, .. }, Input::TimePassed) if now >= until => {
                self.out -= 1;
                self.states[endpoint] = State::In { since: now, times };
                Some(Change::Returned)
            }
            (State::Out { .. }, Input::Released) => {
                self.out -= 1;
                self.states[endpoint] = State::In {
                    since: now,
                    times: 0,
                };
                Some(Change::Returned)
            }
            (State::In { .. }, Input::TimePassed | Input::Released)
            | (State::Out { .. }, Input::Misbehaved(_) | Input::TimePassed) => None,
        }
    }

    /// The count of earlier ejections, less one for each base time in service.
    fn remembered(&self, since: Time, times: u32, now: Time) -> u32 {
        let good = nanos(now.since(since)) / nanos(self.config.base);
        times.saturating_sub(u32::try_from(good).unwrap_or(u32::MAX))
    }

    fn duration(&self, times: u32) -> Duration {
        self.config.base.saturating_mul(times).min(self.config.max)
    }
}

/// With three, two agree on what is normal.
const FEWEST_TIMES: usize = 3;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::Outcome;
    use crate::ratio::Ratio;

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    fn ejector(config: Config, endpoints: usize) -> Ejector {
        Ejector::new(config, endpoints, Time::ZERO).unwrap()
    }

    fn pass(ejector: &mut Ejector, now: Time) -> Vec<usize> {
        let mut changed = Vec::new();
        ejector.timeout(
            now,
            |_| Sample::default(),
            |endpoint, _| changed.push(endpoint),
        );
        changed
    }

    #[test]
    fn each_ejection_is_longer_until_good_behaviour_shortens_it() {
        let mut ejector = ejector(Config::default(), 4);
        let mut now = at(0);
        let mut eject = |wait: u64| {
            now = now + Duration::from_secs(wait);
            let Some(Change::Ejected { until, .. }) = ejector.misbehaved(0, now) else {
                panic!("it was in service");
            };
            let lasted = until.since(now).as_secs();
            now = until;
            assert_eq!(pass(&mut ejector, now), [0]);
            lasted
        };
        let lasted: Vec<_> = [0, 0, 29, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0]
            .map(&mut eject)
            .into();
        let expected = [30, 60, 90, 120, 90, 120, 150, 180, 210, 240, 270, 300, 300];
        assert_eq!(lasted, expected);
        assert_eq!(eject(3_600), 30);
    }

    #[test]
    fn the_bound_rounds_down_but_allows_one_of_several() {
        let table = [
            (1, 50, 0),
            (2, 50, 1),
            (3, 50, 1),
            (4, 50, 2),
            (10, 50, 5),
            (10, 1, 1),
            (10, 100, 9),
        ];
        for (endpoints, percent, most) in table {
            let config = Config::default().max_share(Ratio::percent(percent));
            let mut ejector = ejector(config, endpoints);
            let out = (0..endpoints)
                .filter(|&endpoint| ejector.misbehaved(endpoint, at(1)).is_some())
                .count();
            assert_eq!(out, most, "{endpoints} endpoints, {percent} %");
            assert_eq!(ejector.spared(), (endpoints - most) as u64);
        }
    }

    #[test]
    fn outliers_are_ejected_worst_first_once_an_interval() {
        let mut ejector = ejector(Config::default().max_share(Ratio::percent(1)), 12);
        let take = |endpoint| Sample {
            attempts: 1_000,
            failures: match endpoint {
                3 => 800,
                7 => 900,
                _ => 0,
            },
            micros: 0,
        };
        let mut changes = Vec::new();
        ejector.timeout(at(9), take, |endpoint, _| changes.push(endpoint));
        assert_eq!(changes, [0; 0], "the interval is not over");
        assert_eq!(ejector.wakes(), at(10));
        ejector.timeout(at(10), take, |endpoint, _| changes.push(endpoint));
        assert_eq!(changes, [7], "one may be ejected: the worst");
        assert_eq!(ejector.spared(), 1);
        assert_eq!(ejector.wakes(), at(20));
    }

    #[test]
    fn a_release_wipes_the_record() {
        let mut ejector = ejector(Config::default(), 2);
        ejector.misbehaved(1, at(0));
        pass(&mut ejector, at(30));
        ejector.misbehaved(1, at(30));
        assert_eq!(ejector.release(1, at(31)), Some(Change::Returned));
        assert_eq!(ejector.release(1, at(31)), None);
        let change = ejector.misbehaved(1, at(32)).unwrap();
        let reason = Reason::Consecutive;
        assert_eq!(
            change,
            Change::Ejected {
                reason,
                until: at(62)
            }
        );
    }

    #[test]
    fn a_tally_counts_what_speaks_of_the_endpoint_since_its_return() {
        const SECOND: Duration = Duration::from_secs(1);
        let tally = Tally::default();
        let overload = Outcome::Overload { retry_after: None };
        let table = [
            (Outcome::Transient, 1),
            (Outcome::Unsent, 2),
            (overload, 0),
            (Outcome::Ignored, 0),
            (Outcome::Transient, 3),
            (Outcome::Permanent, 0),
            (Outcome::Transient, 1),
            (Outcome::Success, 0),
            (Outcome::Transient, 1),
        ];
        for (outcome, run) in table {
            assert_eq!(tally.record(outcome, SECOND, at(10)), run, "{outcome:?}");
        }
        tally.reset(at(20));
        assert_eq!(tally.record(Outcome::Transient, SECOND, at(19)), 0, "late");
        assert_eq!(tally.record(Outcome::Transient, SECOND, at(20)), 1);
        tally.record(Outcome::Success, SECOND, at(20));
        let sample = Sample {
            attempts: 2,
            failures: 1,
            micros: 1_000_000,
        };
        assert_eq!(tally.take(), sample);
        assert_eq!(tally.take(), Sample::default());
    }

    #[test]
    fn impossible_settings_are_refused() {
        let config = Config::default();
        let table = [
            (config.consecutive(0), "eject.consecutive"),
            (config.success_rate(f64::NAN), "eject.success_rate"),
            (config.latency(1.0), "eject.latency"),
            (config.min_endpoints(2), "eject.min_endpoints"),
            (config.min_attempts(0), "eject.min_attempts"),
            (config.interval(Duration::MAX), "eject.interval"),
            (config.base(Duration::ZERO), "eject.base"),
            (config.max(Duration::from_secs(1)), "eject.max"),
            (config.max_share(Ratio::ZERO), "eject.max_share"),
        ];
        for (config, setting) in table {
            let error = Ejector::new(config, 3, Time::ZERO).unwrap_err();
            assert_eq!(error.setting(), setting);
        }
    }

    proptest! {
        /// The naive model: who is out is who was ejected less than its duration ago.
        #[test]
        fn the_bound_holds_and_every_ejection_ends(
            endpoints in 1usize..12,
            percent in 1u32..=100,
            steps in proptest::collection::vec((0usize..12, 0u64..40, 0u8..8), 1..200),
        ) {
            let config = Config::default().max_share(Ratio::percent(percent));
            let mut ejector = ejector(config, endpoints);
            let most = (endpoints * percent as usize / 100).max(1).min(endpoints - 1);
            let mut until = vec![Time::ZERO; endpoints];
            let mut now = at(0);
            for (endpoint, wait, what) in steps {
                now = now + Duration::from_secs(wait);
                let endpoint = endpoint % endpoints;
                pass(&mut ejector, now);
                if what == 0 {
                    if ejector.release(endpoint, now).is_some() {
                        until[endpoint] = now;
                    }
                } else if let Some(Change::Ejected { until: end, .. })
                    = ejector.misbehaved(endpoint, now)
                {
                    prop_assert!(end.since(now) <= Duration::from_secs(300));
                    prop_assert!(end.since(now) >= Duration::from_secs(30));
                    until[endpoint] = end;
                }
                let out: Vec<_> = (0..endpoints).map(|one| ejector.is_out(one)).collect();
                let expected: Vec<_> = until.iter().map(|&end| end > now).collect();
                prop_assert_eq!(&out, &expected);
                prop_assert!(out.iter().filter(|&&out| out).count() <= most);
            }
        }
    }
}
