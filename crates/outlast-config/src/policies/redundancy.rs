//! Which endpoint gets an attempt: balance, active checks, passive ejection.

use std::time::Duration;

use outlast_core::balance::{self, Kind};
use outlast_core::check::{self, Initial};
use outlast_core::eject;

use crate::sections;
use crate::value;
use crate::view::View;

/// The balance, if the file says anything about it.
pub(super) fn balance(view: View<'_>) -> Option<balance::Config> {
    let given = ["balance", "check", "eject"].map(|key| view.node_of(key).is_some());
    if given == [false; 3] {
        return None;
    }
    let part = view.part("balance", &sections::BALANCE);
    let mut config = balance::Config::new(kind(view, part))
        .zones(part.texts("zones").into_iter().map(|(zone, _)| zone))
        .spill_above(part.count("spill_above"))
        .slow_start(part.duration("slow_start"))
        .fail_back(
            part.duration("fail_back_after").unwrap_or_default(),
            part.duration("fail_back_over").unwrap_or_default(),
        );
    if let Some(share) = part.share("panic") {
        config = config.panic(share);
    }
    let [_, checked, ejects] = given;
    if checked {
        config = config.check(check(view.part("check", &sections::ACTIVE_CHECK)));
    }
    if ejects {
        config = config.eject(eject(view.part("eject", &sections::EJECT)));
    }
    Some(config)
}

/// A kind may be said alone.
fn kind(view: View<'_>, part: View<'_>) -> Kind {
    let alone = view
        .text("balance")
        .filter(|_| view.node_of("balance").is_some());
    let (decay, choices) = (
        part.duration("decay").unwrap_or(Duration::from_secs(10)),
        part.count("choices").unwrap_or(2),
    );
    match alone.or(part.text("kind")) {
        Some("least_requests") => Kind::LeastRequests { choices },
        Some("round_robin") => Kind::RoundRobin,
        Some("weighted") => Kind::Weighted,
        Some("hash") => Kind::Hash {
            bound: part.text("bound").and_then(value::decimal).unwrap_or(1.25),
        },
        _ => Kind::PeakEwma { decay, choices },
    }
}

fn check(part: View<'_>) -> check::Config {
    let duration = |key| part.duration(key).unwrap_or_default();
    let mut config = check::Config::default()
        .interval(duration("interval"))
        .timeout(duration("timeout"))
        .healthy_after(part.count("healthy_after").unwrap_or(1))
        .unhealthy_after(part.count("unhealthy_after").unwrap_or(1));
    if let Some(jitter) = part.share("jitter") {
        config = config.jitter(jitter);
    }
    config.initial(match part.text("initial") {
        Some("down") => Initial::Down,
        _ => Initial::Unknown,
    })
}

fn eject(part: View<'_>) -> eject::Config {
    let number = |key| part.text(key).and_then(value::decimal);
    let mut config = eject::Config::default()
        .consecutive(part.count("consecutive"))
        .success_rate(number("success_rate"))
        .latency(number("latency"))
        .enforce(part.truth("enforce") != Some(false));
    if let Some(margin) = part.share("margin") {
        config = config.margin(margin);
    }
    if let Some(endpoints) = part.count("min_endpoints") {
        config = config.min_endpoints(endpoints);
    }
    if let Some(attempts) = part.count("min_attempts") {
        config = config.min_attempts(attempts);
    }
    if let Some(share) = part.share("max_share") {
        config = config.max_share(share);
    }
    let times = [
        part.duration("interval"),
        part.duration("base"),
        part.duration("max"),
    ];
    if let [Some(interval), Some(base), Some(max)] = times {
        config = config.interval(interval).base(base).max(max);
    }
    config
}
