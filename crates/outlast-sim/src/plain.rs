//! Clients without Outlast, to compare with: timeout, retries, and what bounds those elsewhere.

use std::time::Duration;

use outlast_core::backoff::Backoff;

/// What a client does that has only these.
#[derive(Clone, Debug, PartialEq)]
pub struct Plain {
    pub(crate) attempts: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) wait: Wait,
    pub(crate) allowance: Allowance,
}

/// When a further attempt is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wait {
    /// So long after the last one failed.
    Backoff(Backoff),
    /// So long after the last one began, or at once if that is over.
    FromStart(Duration),
    /// So long after the last one failed, and up to so much longer at random: what a server says with
    /// Retry-After, and jitter.
    Between(Duration, Duration),
}

/// Whether a further attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowance {
    /// Always.
    Always,
    /// While there are tokens for it. A client begins with as many as it may have.
    Tokens {
        /// What is put in.
        deposit: f64,
        /// When it is put in.
        per: Deposit,
        /// What a further attempt costs: one for most, 5 for the AWS SDKs, of 500.
        cost: f64,
        /// As many as there may be.
        most: f64,
    },
    /// While more than half of the tokens are left: each failed attempt takes one, each success puts
    /// `deposit` in (gRPC, A6).
    AboveHalf {
        /// What a success puts in.
        deposit: f64,
        /// As many as there may be.
        most: f64,
    },
    /// While at most this share of all attempts so far has failed.
    FailingBelow(f64),
}

/// What puts tokens in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deposit {
    /// Each call, as it begins.
    Call,
    /// Each success.
    Success,
}

impl Plain {
    /// One attempt, without a timeout.
    pub fn new() -> Plain {
        Plain {
            attempts: 1,
            timeout: None,
            wait: Wait::Backoff(Backoff::constant(Duration::ZERO)),
            allowance: Allowance::Always,
        }
    }

    /// Attempts in all, the first included; at least 1.
    pub fn attempts(mut self, attempts: u32) -> Plain {
        self.attempts = attempts.max(1);
        self
    }

    /// How long each attempt may take. Default: as long as it does.
    pub fn timeout(mut self, timeout: Duration) -> Plain {
        self.timeout = Some(timeout);
        self
    }

    /// When further attempts are made. Default: at once.
    pub fn wait(mut self, wait: Wait) -> Plain {
        self.wait = wait;
        self
    }

    /// Whether they may be made. Default: always.
    pub fn allowance(mut self, allowance: Allowance) -> Plain {
        self.allowance = allowance;
        self
    }
}

impl Default for Plain {
    fn default() -> Plain {
        Plain::new()
    }
}

/// What a plain client remembers of its calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    tokens: f64,
    attempts: u64,
    failures: u64,
}

impl Memory {
    pub(crate) fn new(plain: &Plain) -> Memory {
        let tokens = match plain.allowance {
            Allowance::Tokens { most, .. } | Allowance::AboveHalf { most, .. } => most,
            Allowance::Always | Allowance::FailingBelow(_) => 0.0,
        };
        Memory {
            tokens,
            attempts: 0,
            failures: 0,
        }
    }

    /// A call begins.
    pub(crate) fn calls(&mut self, plain: &Plain) {
        self.deposit(plain, Deposit::Call);
    }

    /// An attempt is made; how many were before.
    pub(crate) fn tries(&mut self) -> u64 {
        self.attempts += 1;
        self.attempts - 1
    }

    pub(crate) fn succeeds(&mut self, plain: &Plain) {
        self.deposit(plain, Deposit::Success);
    }

    pub(crate) fn fails(&mut self, plain: &Plain) {
        self.failures += 1;
        if let Allowance::AboveHalf { .. } = plain.allowance {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
    }

    fn deposit(&mut self, plain: &Plain, now: Deposit) {
        let (deposit, per, most) = match plain.allowance {
            Allowance::Tokens {
                deposit, per, most, ..
            } => (deposit, per, most),
            Allowance::AboveHalf { deposit, most } => (deposit, Deposit::Success, most),
            Allowance::Always | Allowance::FailingBelow(_) => return,
        };
        if per == now {
            self.tokens = (self.tokens + deposit).min(most);
        }
    }

    /// Whether a further attempt may be made; it is paid for then.
    pub(crate) fn allows(&mut self, plain: &Plain) -> bool {
        match plain.allowance {
            Allowance::Always => true,
            Allowance::Tokens { cost, .. } => {
                let enough = self.tokens >= cost;
                self.tokens -= if enough { cost } else { 0.0 };
                enough
            }
            Allowance::AboveHalf { most, .. } => self.tokens > most / 2.0,
            Allowance::FailingBelow(share) => self.failures as f64 <= share * self.attempts as f64,
        }
    }
}

/// How a plain call stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainCall {
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// When the last one began.
    pub(crate) began: outlast_core::time::Time,
    /// How long it waited last.
    pub(crate) waited: Duration,
    /// Whether an attempt runs; or else it waits to make one.
    pub(crate) runs: bool,
}
