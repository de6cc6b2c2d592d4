//! What a recommendation is made of.

use std::fmt;
use std::time::Duration;

use super::Settings;

/// A setting that can be advised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parameter {
    /// When an attempt ends at the latest.
    Timeout,
    /// Attempts at once.
    Concurrency,
    /// Attempts that may wait for a seat.
    Queue,
    /// The delay before a second attempt beside a slow one.
    Hedge,
    /// How many failures among how many calls trip a breaker.
    Breaker,
    /// Attempts per call.
    Attempts,
    /// Extra attempts as a share of successes.
    Ratio,
}

impl Parameter {
    /// All of them, in the order in which they are advised.
    pub const ALL: [Parameter; 7] = [
        Parameter::Timeout,
        Parameter::Concurrency,
        Parameter::Queue,
        Parameter::Hedge,
        Parameter::Breaker,
        Parameter::Attempts,
        Parameter::Ratio,
    ];

    /// Its key in a policy file.
    pub const fn name(self) -> &'static str {
        match self {
            Parameter::Timeout => "timeout",
            Parameter::Concurrency => "bulkhead.concurrency",
            Parameter::Queue => "bulkhead.queue",
            Parameter::Hedge => "hedge.after",
            Parameter::Breaker => "breaker.failures",
            Parameter::Attempts => "retry.attempts",
            Parameter::Ratio => "budget.ratio",
        }
    }

    /// How it is computed.
    pub const fn formula(self) -> &'static str {
        match self {
            Parameter::Timeout => {
                "the quantile 1-f of attempts, its upper limit (rank n(1-f) + 1.64 sqrt(n f (1-f))), \
                 at least 2 p50, at most the deadline"
            }
            Parameter::Concurrency => {
                "L = lambda W with the p99 of lambda; the least c >= L + 2 sqrt(L) with \
                 ErlangB(c, L) <= refused"
            }
            Parameter::Queue => {
                "Q <= mu (T - s), mu at the worst credible capacity, at most what the seats let through"
            }
            Parameter::Hedge => "the least d with S(d) <= the extra load that is allowed",
            Parameter::Breaker => {
                "the least k with P(Bin(n, f0) >= k) <= false trips, in the least window n with \
                 P(Bin(n, f1) >= k) >= 0.99"
            }
            Parameter::Attempts => "1 + the least r with f^(r+1) <= what may fail",
            Parameter::Ratio => "b = min(20 %, half of mu/lambda - 1), per success",
        }
    }

    pub(super) fn current(self, settings: &Settings) -> Option<Value> {
        match self {
            Parameter::Timeout => settings.timeout.map(Value::Time),
            Parameter::Concurrency => settings.concurrency.map(Value::Count),
            Parameter::Queue => settings.queue.map(Value::Count),
            Parameter::Hedge => settings.hedge.map(Value::Time),
            Parameter::Breaker => settings.breaker.map(|(failures, calls)| match calls {
                Some(calls) => Value::Of(failures, calls),
                None => Value::Count(failures),
            }),
            Parameter::Attempts => settings.attempts.map(Value::Count),
            Parameter::Ratio => settings.ratio.map(Value::Share),
        }
    }
}

/// The value of a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A time.
    Time(Duration),
    /// A number of something.
    Count(u64),
    /// So many of so many.
    Of(u64, u64),
    /// A share between 0 and 1.
    Share(f64),
}

impl fmt::Display for Value {
    /// Times are rounded up to three digits and shares to a tenth of a percent: what a policy file
    /// can say, and people can read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Time(time) => f.write_str(&readable(time)),
            Value::Count(count) => write!(f, "{count}"),
            Value::Of(part, whole) => write!(f, "{part} of {whole}"),
            Value::Share(share) => {
                write!(f, "{}%", libm::floor(share * 1000.0 + 1e-6) / 10.0)
            }
        }
    }
}

/// A time to three digits, rounded up.
fn readable(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    let (unit, name) = match nanos {
        nanos if nanos < 1e6 => (1e3, "us"),
        nanos if nanos < 1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = nanos / unit;
    let digits = match value {
        value if value < 10.0 => 100.0,
        value if value < 100.0 => 10.0,
        _ => 1.0,
    };
    // A ten-thousandth of the last digit is noise of the division.
    format!("{}{name}", libm::ceil(value * digits - 1e-4) / digits)
}

/// What is advised for a setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// The setting.
    pub parameter: Parameter,
    /// What it is now, if it is known.
    pub current: Option<Value>,
    /// How long the data was collected.
    pub window: Duration,
    /// Observations that it rests on: attempts, or for rates seconds.
    pub n: u64,
    /// The advice, or why there is none.
    pub verdict: Verdict,
}

impl Recommendation {
    /// What is advised, if anything is.
    pub fn value(&self) -> Option<Value> {
        match self.verdict {
            Verdict::Advised { value, .. } => Some(value),
            Verdict::Refused { .. } => None,
        }
    }
}

/// The advice for a setting, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// A value that the data supports.
    Advised {
        /// What to set.
        value: Value,
        /// What the same formula gives at the lower end of the data's uncertainty.
        low: Value,
        /// And at its upper end.
        high: Value,
        /// The theory, and what has to hold for it.
        assumes: String,
    },
    /// No value can be answered for.
    Refused {
        /// What is missing.
        why: String,
        /// What would help, with how much of it.
        needs: String,
    },
}

impl Verdict {
    pub(super) fn refused(why: impl Into<String>, needs: impl Into<String>) -> Verdict {
        Verdict::Refused {
            why: why.into(),
            needs: needs.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_a_policy_file_takes_them() {
        let check = |value: Value, text: &str| assert_eq!(value.to_string(), text);
        let micros = |micros| Value::Time(Duration::from_micros(micros));
        check(micros(69_078), "69.1ms");
        check(micros(69_100), "69.1ms");
        check(micros(1_234), "1.24ms");
        check(micros(999), "999us");
        check(micros(114_687), "115ms");
        check(micros(30_000_000), "30s");
        check(micros(1_001_000), "1.01s");
        check(Value::Share(0.0355), "3.5%");
        check(Value::Share(0.2), "20%");
        check(Value::Of(6, 22), "6 of 22");
    }
}
