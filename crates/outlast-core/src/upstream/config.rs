//! The settings of an upstream: one optional block per policy.

use crate::config::{ConfigError, ensure};
use crate::{
    balance, breaker, budget, bulkhead, deadline, failover, fallback, fault, hedge, rate, retry,
    shed,
};

/// Which policies protect a dependency.
#[derive(Clone, Debug)]
pub struct Config {
    pub(super) name: Box<str>,
    /// Until the upstream is built.
    pub(super) endpoints: Vec<balance::Endpoint>,
    pub(super) balance: Option<Box<balance::Config>>,
    pub(super) breaker: Option<breaker::Config>,
    pub(super) bulkhead: Option<bulkhead::Config>,
    pub(super) budget: Option<budget::Config>,
    pub(super) throttle: Option<shed::throttle::Config>,
    pub(super) shed: Option<shed::Config>,
    pub(super) rate: Option<rate::Config>,
    pub(crate) hedge: Option<hedge::Config>,
    pub(crate) retry: Option<retry::Config>,
    pub(crate) failover: Option<failover::Config>,
    pub(crate) deadline: deadline::Config,
    pub(crate) fallback: fallback::Config,
    pub(crate) fault: Option<fault::Config>,
}

impl Config {
    /// An upstream without policies, except that an attempt ends after 30 s. Until endpoints are
    /// added it has one, named `main`.
    pub fn new(name: impl Into<String>) -> Config {
        Config {
            name: name.into().into_boxed_str(),
            endpoints: Vec::new(),
            balance: None,
            breaker: None,
            bulkhead: None,
            budget: Some(budget::Config::default()),
            throttle: None,
            shed: None,
            rate: None,
            hedge: None,
            retry: None,
            failover: None,
            deadline: deadline::Config::default(),
            fallback: fallback::Config::default(),
            fault: None,
        }
    }

    /// What most dependencies want: the default breaker and retry policy, with their budget. The
    /// breaker tries again after about two seconds: a trial costs one call, and an outage that is over
    /// is not made longer than that by those who do not know it.
    pub fn standard(name: impl Into<String>) -> Config {
        Config::new(name)
            .breaker(breaker::Config::default().soon())
            .retry(retry::Config::default())
    }

    /// Adds an endpoint, with a breaker and statistics of its own. Names must be unique; at most
    /// 1,024.
    pub fn endpoint(self, name: impl Into<String>) -> Config {
        self.endpoint_with(balance::Endpoint::new(name))
    }

    /// Adds an endpoint with a weight, a priority or a zone.
    pub fn endpoint_with(mut self, endpoint: balance::Endpoint) -> Config {
        self.endpoints.push(endpoint);
        self
    }

    /// How the endpoint of an attempt is chosen among several, and which are left alone: checks,
    /// ejection, zones. Default: with several endpoints and no failover, [`balance::Config`]'s own.
    /// Does not go with failover.
    pub fn balance(mut self, balance: balance::Config) -> Config {
        self.balance = Some(Box::new(balance));
        self
    }

    /// A circuit breaker per endpoint. Default: none.
    pub fn breaker(mut self, breaker: breaker::Config) -> Config {
        self.breaker = Some(breaker);
        self
    }

    /// Attempts at once. Default: no bound. A shedder lets in no more calls than have a seat or a
    /// place in the queue here, whatever its limit says: the bulkhead does not know tiers.
    pub fn bulkhead(mut self, bulkhead: bulkhead::Config) -> Config {
        self.bulkhead = Some(bulkhead);
        self
    }

    /// The bound on retries, hedges and failovers together; `None` for no bound, which lets an
    /// outage multiply the load. Default: 10 % of the successes of 30 s, and 3.
    pub fn budget(mut self, budget: impl Into<Option<budget::Config>>) -> Config {
        self.budget = budget.into();
        self
    }

    /// Calls that the dependency would probably refuse are not sent. Default: all are.
    pub fn throttle(mut self, throttle: shed::throttle::Config) -> Config {
        self.throttle = Some(throttle);
        self
    }

    /// Calls at once, by a limit that is measured, and under load by tier. Default: no bound.
    pub fn shed(mut self, shed: shed::Config) -> Config {
        self.shed = Some(shed);
        self
    }

    /// Calls per time. Default: no limit.
    pub fn rate(mut self, rate: rate::Config) -> Config {
        self.rate = Some(rate);
        self
    }

    /// Second attempts against slow ones. Default: none.
    pub fn hedge(mut self, hedge: hedge::Config) -> Config {
        self.hedge = Some(hedge);
        self
    }

    /// Further attempts after failed ones. Default: none.
    pub fn retry(mut self, retry: retry::Config) -> Config {
        self.retry = Some(retry);
        self
    }

    /// The endpoints that were added so far.
    pub fn endpoints(&self) -> &[balance::Endpoint] {
        &self.endpoints
    }

    /// The order of the endpoints is one of preference. Default: they share the load.
    pub fn failover(mut self, failover: failover::Config) -> Config {
        self.failover = Some(failover);
        self
    }

    /// Limits on time. Default: 30 s per attempt, none per call.
    pub fn deadline(mut self, deadline: deadline::Config) -> Config {
        self.deadline = deadline;
        self
    }

    /// What a fallback covers, for calls that have one. Default: all but permanent outcomes.
    pub fn fallback(mut self, fallback: fallback::Config) -> Config {
        self.fallback = fallback;
        self
    }

    /// Harm to do on purpose. Default: none.
    pub fn fault(mut self, fault: fault::Config) -> Config {
        self.fault = Some(fault);
        self
    }

    /// Attempts per call, hedges aside, where `endpoints` can be asked for how many there are.
    pub(crate) fn attempts(&self, endpoints: impl FnOnce() -> usize) -> u32 {
        match (&self.retry, &self.failover) {
            (Some(retry), _) => retry.limit(),
            (None, Some(_)) => u32::try_from(endpoints()).unwrap_or(u32::MAX),
            (None, None) => 1,
        }
    }

    /// How endpoints are chosen, if there is a choice: not where their order decides, nor among one
    /// of which nothing special is said.
    pub(super) fn balances(&self, endpoints: &[balance::Endpoint]) -> Option<balance::Config> {
        let is_plain = endpoints.len() == 1 && endpoints[0].is_plain();
        match (&self.balance, self.failover) {
            (Some(balance), _) => Some((**balance).clone()),
            (None, Some(_)) => None,
            (None, None) => (!is_plain).then(balance::Config::default),
        }
    }

    /// Whether anything ever draws on the budget.
    pub(crate) fn makes_extra_attempts(&self) -> bool {
        self.retry.is_some() || self.hedge.is_some() || self.failover.is_some()
    }

    /// Whether anything but hedges may really make an extra attempt.
    pub(crate) fn extra_attempts_are_enforced(&self) -> bool {
        self.retry.is_some_and(|retry| retry.is_enforced())
            || self.failover.is_some_and(|failover| failover.is_enforced())
    }

    pub(crate) fn breaker_is_enforced(&self) -> bool {
        self.breaker
            .as_ref()
            .is_none_or(breaker::Config::is_enforced)
    }

    pub(crate) fn bulkhead_is_enforced(&self) -> bool {
        self.bulkhead
            .as_ref()
            .is_none_or(bulkhead::Config::is_enforced)
    }

    pub(crate) fn budget_is_enforced(&self) -> bool {
        self.budget.as_ref().is_none_or(budget::Config::is_enforced)
    }

    pub(crate) fn throttle_is_enforced(&self) -> bool {
        self.throttle
            .as_ref()
            .is_none_or(shed::throttle::Config::is_enforced)
    }

    pub(crate) fn rate_is_enforced(&self) -> bool {
        self.rate.as_ref().is_none_or(rate::Config::is_enforced)
    }

    /// Checks what the policies cannot check by themselves, and fills in the one endpoint.
    pub(super) fn check(&mut self) -> Result<(), ConfigError> {
        if self.endpoints.is_empty() {
            self.endpoints.push(balance::Endpoint::new("main"));
        }
        ensure(
            !self.name.is_empty(),
            "name",
            "must not be empty; it is how metrics tell upstreams apart",
        )?;
        balance::validate_endpoints(&self.endpoints)?;
        ensure(
            self.failover.is_none() || self.endpoints.len() > 1,
            "failover",
            "needs a second endpoint to fail over to",
        )?;
        ensure(
            self.failover.is_none() || self.balance.is_none(),
            "balance",
            "does not go with failover, whose order is fixed; leave failover out, and for groups \
             of which one takes over from another give endpoints a priority",
        )?;
        ensure(
            self.failover.is_none() || self.endpoints.iter().all(balance::Endpoint::is_plain),
            "failover",
            "does not look at weights, priorities and zones; leave it out, or them",
        )?;
        self.deadline.check()?;
        self.retry.iter().try_for_each(retry::Config::check)?;
        self.hedge.iter().try_for_each(hedge::Config::check)
    }
}
