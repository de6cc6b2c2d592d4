//! The peers' settings in our terms.
//!
//! One that stays open until *after* its wait gets a nanosecond more; one that trips *above* a
//! ratio gets a millionth more; one whose probes may hang gets the longest lease; how many trials
//! are tolerated and needed follows from the peer's own rule.

use std::time::Duration;

use outlast_core::backoff::Backoff;
use outlast_core::breaker::Config;
use outlast_core::ratio::Ratio;
use outlast_core::window::Window;

use crate::vectors::fields::Fields;
use crate::vectors::{Case, DAY, ratio, series};

pub(super) fn config(case: &Case<'_>) -> Config {
    let peer = &case.config;
    let lasting = match case.profile {
        "outlast_recommended" => return recommended(peer),
        "resilience4j" => resilience4j(peer).cooldown(waits(peer, "wait_open_ms", LATER)),
        "polly_v8" => single_probe(
            Config::failure_ratio(
                ratio(peer.required("failure_ratio")),
                time(peer, "sampling_ms"),
            )
            .min_calls(peer.required("min_throughput")),
        )
        .cooldown(waits(peer, "break_ms", AT_ONCE)),
        "gobreaker_v2" => gobreaker(peer).cooldown(waits(peer, "timeout_ms", LATER)),
        "failsafe" => failsafe(peer).cooldown(waits(peer, "delay_ms", AT_ONCE)),
        "microprofile_ft" => microprofile(peer).cooldown(waits(peer, "delay_ms", AT_ONCE)),
        "hystrix" => single_probe(
            Config::failure_ratio(percent(peer, "error_pct"), time(peer, "rolling_ms"))
                .min_calls(peer.required("request_volume")),
        )
        .cooldown(waits(peer, "sleep_ms", LATER)),
        "sentinel" => sentinel(peer).cooldown(waits(peer, "retry_ms", AT_ONCE)),
        "cockatiel" => {
            let kind: &str = peer.required("breaker");
            assert_eq!(kind, "consecutive", "the kind of breaker");
            single_probe(Config::consecutive(peer.required("threshold"))).cooldown(waits(
                peer,
                "half_open_after_ms",
                AT_ONCE,
            ))
        }
        "opossum" => opossum(peer).cooldown(waits(peer, "reset_ms", AT_ONCE)),
        "pybreaker" => Config::consecutive(peer.required("fail_max"))
            .trials(1)
            .successes(peer.required("success_threshold"))
            .cooldown(waits(peer, "reset_ms", AT_ONCE)),
        _ => case.unknown_profile(),
    };
    lasting.lease(DAY)
}

/// Our own rules, in the words of resilience4j: its half-open calls are trials and successes.
fn recommended(peer: &Fields<'_>) -> Config {
    assert!(
        peer.required::<bool>("generation"),
        "permits are always tagged"
    );
    let needed = half_open_results(peer);
    resilience4j(peer)
        .cooldown(waits(peer, "wait_open_ms", AT_ONCE))
        .successes(needed)
        .tolerate(0)
        .lease(peer.millis("half_open_max_ms"))
}

fn resilience4j(peer: &Fields<'_>) -> Config {
    let length: u32 = peer.required("window");
    let window = match peer.required("window_type") {
        "count" => Window::calls(length),
        "time" => Window::Time(Duration::from_secs(u64::from(length))),
        other => panic!("unknown window {other}"),
    };
    let limit = percent(peer, "failure_rate_pct");
    let mut config = Config::failure_ratio(limit, window)
        .min_calls(peer.required("min_calls"))
        .trials(peer.required("half_open_calls"));
    if peer.has("slow_ms") {
        config = config.or_slow_calls(peer.millis("slow_ms"), percent(peer, "slow_rate_pct"));
    }
    judged_by_ratio(config, half_open_results(peer), limit)
}

/// resilience4j judges the half-open state after so many results.
fn half_open_results(peer: &Fields<'_>) -> u32 {
    let permitted: u32 = peer.required("half_open_calls");
    permitted.min(peer.required("min_calls"))
}

/// As many failures as leave the ratio of `calls` below `limit` are tolerated.
fn judged_by_ratio(config: Config, calls: u32, limit: Ratio) -> Config {
    let stays_below = |failed: &u32| !limit.reached_by(u64::from(*failed), u64::from(calls));
    let tolerated = (0..calls).rev().find(stays_below).unwrap_or(0);
    config.tolerate(tolerated).successes(calls - tolerated)
}

/// Its `ReadyToTrip` is one function: with a ratio, the run of failures does not matter.
fn gobreaker(peer: &Fields<'_>) -> Config {
    let run: u32 = peer.required("consecutive_failures_over");
    let window = match peer.required("interval_ms") {
        0 => Window::Time(DAY),
        interval => Window::Time(Duration::from_millis(interval)),
    };
    let config = match peer.optional("ratio") {
        None => Config::consecutive(run + 1),
        Some(limit) => {
            Config::failure_ratio(ratio(limit), window).min_calls(peer.required("ratio_min"))
        }
    };
    let trials = peer.required("max_requests");
    config.trials(trials).successes(trials)
}

/// Half-open it counts up to a capacity, and ends as soon as the verdict cannot change.
fn failsafe(peer: &Fields<'_>) -> Config {
    let (failures, of): (u32, u32) = (
        peer.required("failure_threshold"),
        peer.required("failure_capacity"),
    );
    let (successes, of_trials): (u32, u32) = (
        peer.required("success_threshold"),
        peer.required("success_capacity"),
    );
    let limit = peer.optional("failure_rate").map(ratio);
    let executions: u32 = peer.optional("execution_threshold").unwrap_or(of);
    let config = match limit {
        Some(limit) => Config::failure_ratio(limit, time(peer, "period_ms")).min_calls(executions),
        None => Config::failures(failures, Window::calls(of)),
    };
    match (successes, limit) {
        (0, Some(limit)) => judged_by_ratio(config.trials(executions), executions, limit),
        (0, None) => config
            .trials(of)
            .tolerate(failures - 1)
            .successes(of - failures + 1),
        _ => config
            .trials(of_trials)
            .tolerate(of_trials - successes)
            .successes(successes),
    }
}

pub fn microprofile(peer: &Fields<'_>) -> Config {
    let volume = peer.required("request_volume");
    let trials = peer.optional("success_threshold").unwrap_or(1);
    Config::failure_ratio(ratio(peer.required("failure_ratio")), Window::calls(volume))
        .min_calls(volume)
        .trials(trials)
        .successes(trials)
}

fn sentinel(peer: &Fields<'_>) -> Config {
    let window = time(peer, "stat_ms");
    let limit = above(peer.required("threshold"));
    let config = match (peer.required("grade"), peer.optional("slow_ms")) {
        ("slow_ratio", Some(slow)) => {
            Config::slow_calls(Duration::from_millis(slow), limit, window)
        }
        ("error_ratio", None) => Config::failure_ratio(limit, window),
        other => panic!("unknown grade {other:?}"),
    };
    single_probe(config.min_calls(peer.required("min_requests")))
}

fn opossum(peer: &Fields<'_>) -> Config {
    let bulkhead = peer.optional::<u64>("capacity");
    assert_eq!(bulkhead, None, "a breaker has no bulkhead of its own");
    let share: f64 = peer.required("error_pct");
    let volume: u32 = peer.required("volume");
    let config = Config::failure_ratio(above(share / 100.0), time(peer, "rolling_ms"));
    single_probe(config.min_calls(volume.max(1)))
}

fn single_probe(config: Config) -> Config {
    config.trials(1).successes(1)
}

/// The least ratio above `share`; there is none above one.
fn above(share: f64) -> Ratio {
    ratio((share + 1e-6).min(1.0))
}

fn percent(peer: &Fields<'_>, key: &str) -> Ratio {
    ratio(peer.required::<f64>(key) / 100.0)
}

fn time(peer: &Fields<'_>, key: &str) -> Window {
    Window::Time(peer.millis(key))
}

fn waits(peer: &Fields<'_>, key: &str, more: Duration) -> Backoff {
    series(&peer.required::<Vec<u64>>(key), more)
}

/// The wait is over when it has passed.
const AT_ONCE: Duration = Duration::ZERO;
/// The wait is over only after it has passed.
const LATER: Duration = Duration::from_nanos(1);
