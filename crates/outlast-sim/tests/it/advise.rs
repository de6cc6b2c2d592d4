//! What is advised holds for the law that the data came from.

use std::time::Duration;

use outlast_core::rng::Rng;
use outlast_sim::Law;
use outlast_sim::advise::{Bucket, Goals, Observed, Parameter, Value, advise};

use crate::rows::row;

/// What a gateway would have counted, to the microsecond: attempts of a law, cut at a timeout.
struct Counted {
    micros: Vec<u64>,
    cut: u64,
    timeout: Duration,
}

impl Counted {
    fn new(law: &Law, n: u64, timeout: Duration, rng: &mut Rng) -> Counted {
        let mut counted = Counted {
            micros: Vec::new(),
            cut: 0,
            timeout,
        };
        for _ in 0..n {
            let took = draw(law, rng);
            if took > timeout {
                counted.cut += 1;
                continue;
            }
            let micros = took.as_nanos().div_ceil(1_000) as usize;
            if counted.micros.len() <= micros {
                counted.micros.resize(micros + 1, 0);
            }
            counted.micros[micros] += 1;
        }
        counted
    }

    /// The advised timeout, if there is one.
    fn advised(&self) -> Option<Duration> {
        let counts = self.micros.iter().enumerate();
        let answered = counts
            .filter(|&(_, &count)| count > 0)
            .map(|(micros, &count)| Bucket {
                upper: Duration::from_micros(micros as u64),
                count,
            });
        let observed = Observed {
            answered: answered.collect(),
            cut: vec![Bucket {
                upper: self.timeout,
                count: self.cut,
            }],
            ..Observed::default()
        };
        let advice = advise(&observed, &Goals::default());
        let timeout = advice
            .iter()
            .find(|one| one.parameter == Parameter::Timeout);
        match timeout.unwrap().value() {
            Some(Value::Time(timeout)) => Some(timeout),
            _ => None,
        }
    }
}

fn draw(law: &Law, rng: &mut Rng) -> Duration {
    // A law has no quantile of nothing.
    let unit = rng.unit().max(f64::EPSILON);
    law.quantile(unit)
}

fn laws() -> [Law; 3] {
    let ms = Duration::from_millis(1);
    [
        Law::exponential(5 * ms),
        Law::lognormal(3 * ms, 0.8).unwrap(),
        Law::hyperexponential(0.95, 2 * ms, 15 * ms).unwrap(),
    ]
}

#[test]
fn the_advised_timeout_is_long_enough_in_nineteen_of_twenty_windows() {
    for (seed, law) in laws().into_iter().enumerate() {
        let mut rng = Rng::new(seed as u64);
        let truth = law.quantile(0.999);
        // Of 300 windows 285 +- 3.8: within four deviations.
        let trials = 300;
        let covers = |_: &u32| {
            let counted = Counted::new(&law, 100_000, Duration::MAX, &mut rng);
            counted.advised().unwrap() >= truth
        };
        let covered = (0..trials).filter(covers).count();
        assert!(
            (270..=299).contains(&covered),
            "{law:?}: {covered} of {trials}"
        );
    }
}

/// Each advised timeout is set, and the next window is measured with it.
#[test]
fn advice_that_is_followed_does_not_ratchet_down() {
    for (seed, law) in laws().into_iter().enumerate() {
        let mut rng = Rng::new(100 + seed as u64);
        let truth = law.quantile(0.999);
        let mut timeout = Duration::MAX;
        for window in 0..30 {
            let counted = Counted::new(&law, 200_000, timeout, &mut rng);
            // Where cuts hide the quantile nothing is advised, and the timeout stays.
            if let Some(advised) = counted.advised() {
                timeout = advised;
            }
            // What is cut by mistake stays near one in a thousand: at most two.
            assert!(
                timeout > law.quantile(0.998),
                "{law:?}: {timeout:?} in window {window}"
            );
        }
        assert!(timeout < 2 * truth, "{law:?}: {timeout:?} for {truth:?}");
    }
}

/// "If we choose a false timeout rate of 0.1 %, we look at the p99.9" (AWS Builders' Library).
#[test]
fn false_timeouts_are_as_rare_as_asked_for() {
    let row = row("V09");
    let requests = row.parameter("requests") as u64;
    for (seed, law) in laws().into_iter().enumerate() {
        let mut rng = Rng::new(200 + seed as u64);
        let timeout = Counted::new(&law, requests, Duration::MAX, &mut rng)
            .advised()
            .unwrap();
        let late = (0..requests)
            .filter(|_| draw(&law, &mut rng) > timeout)
            .count();
        let rate = late as f64 / requests as f64;
        let expected = row.expected("false_timeout_rate");
        let off = (rate / expected - 1.0).abs();
        assert!(off <= row.tolerance("rel"), "{law:?}: {rate}");
    }
}
