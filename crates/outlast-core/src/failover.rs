//! When one endpoint fails, the next one, in order.
//!
//! With failover the endpoints are an order of preference (active-passive): a call starts at the
//! first whose breaker lets it pass, and when an attempt fails in a way that another could cure,
//! the next endpoint is tried *at once*, without backoff, each at most once. Only when all have
//! been tried does the retry policy, if there is one, wait and start again at the first.
//!
//! Without failover they share the load: see [`crate::balance`]. The two do not go together: the
//! order here never changes, nor do the endpoints.
//!
//! Every failover is an extra attempt and drawn from the budget. The number of attempts is that
//! of the retry policy, or without one the number of endpoints.

/// Whether the order of the endpoints is one of preference.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    enforce: bool,
}

impl Config {
    /// In the order in which the endpoints were added.
    pub fn ordered() -> Config {
        Config { enforce: true }
    }

    /// `false`: shadow mode. Calls still start at the first endpoint; it counts the failovers it
    /// would make, and makes none. Default `true`.
    pub fn enforce(mut self, enforce: bool) -> Config {
        self.enforce = enforce;
        self
    }

    pub(crate) fn is_enforced(&self) -> bool {
        self.enforce
    }
}
