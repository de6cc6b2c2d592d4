//! What `outlast slo` can be asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use outlast_sim::slo::{Availability, Share};

use crate::picture;

#[derive(Args, Debug)]
pub(crate) struct Slo {
    #[command(subcommand)]
    pub(crate) question: Question,
    /// Print the numbers as JSON: seconds, and shares from 0 to 1
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Draw a picture, too: an `.svg` file, or an `.html` page
    #[arg(long, global = true, value_name = "FILE", value_parser = picture::file)]
    pub(crate) plot: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Question {
    /// What needs all of its units
    ///
    /// Example: outlast slo series 99.9% 99.9% 99.95%
    Series {
        /// How available each unit is, such as `99.9%`
        #[arg(required = true, value_parser = availability)]
        units: Vec<Availability>,
    },
    /// What needs one of its units, which have causes of failure in common
    ///
    /// Unavailable for `c + (u1 - c)(u2 - c)...` of the time, with the common part `c = beta *
    /// min(u)`. Example: outlast slo parallel 99.9% 99.9% --beta 10%
    Parallel {
        /// How available each unit is, such as `99.9%`
        #[arg(required = true, value_parser = availability)]
        units: Vec<Availability>,
        /// The share of a unit's unavailability that hits all: network, releases, configuration
        #[arg(long, default_value = "10%", value_parser = share)]
        beta: Share,
    },
    /// What needs some of equal units, such as a quorum
    ///
    /// Example: outlast slo k-of-n 2 3 99.9% --beta 5%
    #[command(name = "k-of-n")]
    KOfN {
        /// How many are needed
        #[arg(value_name = "K", value_parser = units)]
        needed: u32,
        /// How many there are
        #[arg(value_name = "N", value_parser = units)]
        units: u32,
        /// How available each is, such as `99.9%`
        #[arg(value_name = "A", value_parser = availability)]
        unit: Availability,
        /// The share of a unit's unavailability that hits all: network, releases, configuration
        #[arg(long, default_value = "10%", value_parser = share)]
        beta: Share,
    },
    /// A second unit that takes over, and whether that saves more than it costs
    ///
    /// Unavailable for `(1 - c) u1 + c u2 u1 + (detect + switch) / mtbf` of the time, with the
    /// coverage `c`. Example: outlast slo failover 99.9% 99.9% --detect 10s --switch 5s --mtbf 30d
    Failover(Failover),
    /// How much may fail, what is left of it, and until when
    ///
    /// Example: outlast slo budget 99.9% --requests 12_000_000 --failed 15_000 --elapsed 12d
    Budget(Budget),
    /// When to wake somebody: the alerts of the SRE workbook for a target
    ///
    /// Example: outlast slo burn 99.9% --window 28d
    Burn {
        /// The share that must succeed, such as `99.9%`
        #[arg(value_parser = target)]
        target: Share,
        /// The time that the target is about, at least a week
        #[arg(long, default_value = "30d", value_parser = long_window)]
        window: Duration,
    },
    /// How many requests a canary needs, judged after each (sequential test)
    ///
    /// Example: outlast slo canary --good 0.1% --bad 1% --rps 10
    Canary(Canary),
    /// After how long a silence a service is suspected (phi accrual)
    ///
    /// Example: outlast slo phi --mean 1s --sd 200ms --phi 8
    Phi {
        /// The mean interval between heartbeats
        #[arg(long, value_parser = some_time)]
        mean: Duration,
        /// Its standard deviation
        #[arg(long, value_parser = some_time)]
        sd: Duration,
        /// How many nines of suspicion are needed, above 0 and at most 300
        #[arg(long = "phi", default_value_t = 8.0, value_parser = threshold)]
        threshold: f64,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Failover {
    /// How available the first unit is, such as `99.9%`
    #[arg(value_name = "A1", value_parser = availability)]
    pub(crate) first: Availability,
    /// How available the second one is
    #[arg(value_name = "A2", value_parser = availability)]
    pub(crate) second: Availability,
    /// How long it takes to notice a failure
    #[arg(long, value_parser = outlast_config::duration)]
    pub(crate) detect: Duration,
    /// How long it takes from then until the second unit answers
    #[arg(long, value_parser = outlast_config::duration)]
    pub(crate) switch: Duration,
    /// The mean time from one failure of the first unit to its next
    #[arg(long, value_parser = some_time)]
    pub(crate) mtbf: Duration,
    /// The share of failures that are noticed and can be switched over
    #[arg(long, default_value = "95%", value_parser = share)]
    pub(crate) coverage: Share,
}

#[derive(Args, Debug)]
pub(crate) struct Budget {
    /// The share that must succeed, such as `99.9%`
    #[arg(value_parser = target)]
    pub(crate) target: Share,
    /// The time that the target is about
    #[arg(long, default_value = "30d", value_parser = some_time)]
    pub(crate) window: Duration,
    /// Requests since the window began
    #[arg(long, value_parser = count)]
    pub(crate) requests: Option<u64>,
    /// Those of them that failed
    #[arg(long, value_parser = count, requires = "requests")]
    pub(crate) failed: Option<u64>,
    /// How long ago the window began; the whole window if left out
    #[arg(long, value_parser = some_time, requires = "failed")]
    pub(crate) elapsed: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Canary {
    /// The ratio of errors of a canary that may go on
    #[arg(long, value_parser = share)]
    pub(crate) good: Share,
    /// The ratio of errors of one that must not
    #[arg(long, value_parser = share)]
    pub(crate) bad: Share,
    /// How often a good one may be rolled back
    #[arg(long, default_value = "5%", value_parser = share)]
    pub(crate) alpha: Share,
    /// How often a bad one may go on
    #[arg(long, default_value = "5%", value_parser = share)]
    pub(crate) beta: Share,
    /// Requests a second that reach the canary
    #[arg(long, value_parser = rate)]
    pub(crate) rps: f64,
}

fn share(text: &str) -> Result<Share, String> {
    Share::new(outlast_config::share(text)?).map_err(|error| error.to_string())
}

fn availability(text: &str) -> Result<Availability, String> {
    share(text).map(Availability::new)
}

fn target(text: &str) -> Result<Share, String> {
    let target = share(text)?;
    if target.as_f64() < 1.0 {
        Ok(target)
    } else {
        Err("a target of 100% leaves nothing to spend; write less, such as `99.9%`".to_owned())
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    let time = outlast_config::duration(text)?;
    if time.is_zero() {
        return Err("it takes some time; write more than zero".to_owned());
    }
    Ok(time)
}

fn long_window(text: &str) -> Result<Duration, String> {
    let window = outlast_config::duration(text)?;
    if window < Duration::from_secs(7 * 86_400) {
        return Err("alerts look at three days; write a window of `7d` or more".to_owned());
    }
    Ok(window)
}

fn units(text: &str) -> Result<u32, String> {
    let units = text.parse();
    units.map_err(|_| "write a whole number, such as `3`".to_owned())
}

fn count(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let number = digits
        .parse()
        .ok()
        .filter(|number| *number <= MOST_REQUESTS);
    number.ok_or_else(|| "write a whole number, such as `12_000_000`".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    let rate = rate.filter(|rate| *rate >= 0.001 && *rate <= 1e9);
    rate.ok_or_else(|| "write requests a second, from `0.001` to `1000000000`".to_owned())
}

fn threshold(text: &str) -> Result<f64, String> {
    let threshold: Option<f64> = text.parse().ok();
    let threshold = threshold.filter(|threshold| *threshold > 0.0 && *threshold <= 300.0);
    threshold.ok_or_else(|| "write a number above 0, at most 300, such as `8`".to_owned())
}

/// Sums with them stay exact.
const MOST_REQUESTS: u64 = 1 << 53;
