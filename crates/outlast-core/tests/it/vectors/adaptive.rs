//! Adaptive limits: samples on an [`Estimator`] by itself, permits on a [`Shed`].
//!
//! failsafe-go's limiter holds, grows and shrinks by the length of the dependency's queue as Vegas
//! does, with a base that is given.

use std::time::Duration;

use outlast_core::outcome::Outcome;
use outlast_core::shed::{Admission, Config, Estimator, Limit, Sample, Shed};
use outlast_core::tier::Tier;
use outlast_core::time::Time;

use super::{Case, Fields, ratio};

pub(super) fn replay(case: &Case<'_>) {
    let peer = &case.config;
    match case.profile {
        "netflix_aimd" => {
            let limit = Limit::aimd()
                .backoff(ratio(peer.required("backoff")))
                .timeout(peer.millis("timeout_ms"));
            replay_samples(case, limit, None);
        }
        "netflix_vegas" => replay_samples(case, vegas(peer), None),
        "netflix_gradient2" => replay_samples(case, gradient2(peer), None),
        "failsafe_adaptive" if peer.has("baseline_ms") => {
            assert!(peer.required::<bool>("warm"), "a base that is known");
            // A window per sample, which is what a sample is here.
            assert_eq!(peer.required::<u32>("min_samples"), 1);
            peer.skip("window_ms");
            replay_samples(case, Limit::vegas(), Some(peer.millis("baseline_ms")));
        }
        "failsafe_adaptive" => replay_permits(case),
        _ => case.unknown_profile(),
    }
}

/// Thresholds of the peer's that are constant have to be those of ours at the initial limit.
fn vegas(peer: &Fields<'_>) -> Limit {
    let log = peer.required::<u32>("initial").ilog10().max(1);
    peer.expect("alpha", 3 * log);
    peer.expect("beta", 6 * log);
    let mut limit = Limit::vegas();
    if let Some(share) = peer.optional("smoothing") {
        limit = limit.smoothing(ratio(share));
    }
    match peer.optional("decrease") {
        None => limit,
        Some("half") => limit.backoff(ratio(0.5)),
        Some(other) => panic!("unknown decrease {other}"),
    }
}

fn gradient2(peer: &Fields<'_>) -> Limit {
    // Ours are constants.
    peer.expect("queue", 4u32);
    peer.expect("long_window", 600u32);
    Limit::gradient2()
        .smoothing(ratio(peer.required("smoothing")))
        .tolerance(peer.required("tolerance"))
}

fn bounded(limit: Limit, peer: &Fields<'_>) -> Limit {
    let limit = limit.initial(peer.required("initial"));
    let limit = peer.optional("min").map_or(limit, |min| limit.min(min));
    peer.optional("max").map_or(limit, |max| limit.max(max))
}

fn replay_samples(case: &Case<'_>, limit: Limit, base: Option<Duration>) {
    let limit = bounded(limit, &case.config);
    let mut estimator = Estimator::new(limit, 1).expect("valid settings");
    let sample = |took, in_flight, dropped: bool| Sample {
        took,
        in_flight,
        calls: 1,
        timeouts: 0,
        refused: u32::from(dropped),
    };
    if let Some(base) = base {
        estimator.update(sample(base, 1, false));
    }
    for step in &case.steps {
        assert_eq!(step.required::<&str>("op"), "sample", "{}", step.place);
        let dropped = step.optional("drop").unwrap_or(false);
        let in_flight = step.required("inflight");
        let limit = estimator.update(sample(step.millis("rtt_ms"), in_flight, dropped));
        let expect = step.object("expect").expect("an expectation");
        expect.expect("limit", limit);
    }
    case.expect.expect("limit", estimator.limit());
}

fn replay_permits(case: &Case<'_>) {
    let config = Config::new(bounded(Limit::capacity(), &case.config));
    let shed = Shed::new(config, 1).expect("valid settings");
    let mut permits = Vec::new();
    for step in &case.steps {
        match step.required("op") {
            "acquire" => match shed.admit(Tier::Important, Time::MAX, Time::ZERO) {
                Ok(Admission::Permit(permit)) => permits.push(permit),
                other => panic!("{}: {other:?}", step.place),
            },
            "drop" => {
                let permit = permits.pop().expect("a permit");
                shed.record(permit, Outcome::Ignored, Duration::ZERO, Time::ZERO);
            }
            other => panic!("{}: unknown op {other}", step.place),
        }
    }
    let stats = shed.stats();
    case.expect.expect("limit", stats.limit);
    case.expect.expect("samples", stats.samples);
    case.expect.expect("inflight", stats.in_flight);
}
