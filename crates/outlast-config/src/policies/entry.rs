//! What lets calls in: throttle and shedder.

use outlast_core::shed::{self, Limit, throttle};
use outlast_core::tier::Tier;

use crate::sections;
use crate::value;
use crate::view::View;

pub(super) fn shed(view: View<'_>) -> shed::Config {
    let part = view.part("shed", &sections::SHED);
    let mut config = shed::Config::new(limit(part)).enforce(part.truth("enforce") != Some(false));
    for tier in [Tier::Important, Tier::Optional] {
        if let Some(share) = part.share(tier.name()) {
            config = config.share(tier, share);
        }
    }
    if let Some(share) = part.share("reserve") {
        config = config.reserve(share);
    }
    if let Some(calls) = part.count("queue") {
        config = config.queue(calls);
    }
    if let Some(wait) = part.duration("target") {
        config = config.target(wait);
    }
    match part.duration("interval") {
        Some(interval) => config.interval(interval),
        None => config,
    }
}

fn limit(part: View<'_>) -> Limit {
    let mut limit = match part.text("limit") {
        Some("vegas") => Limit::vegas(),
        Some("aimd") => Limit::aimd(),
        Some("gradient2") => Limit::gradient2(),
        _ => match part.count("limit") {
            Some(calls) => Limit::fixed(calls),
            None => Limit::capacity(),
        },
    };
    if let Some(calls) = part.count("min") {
        limit = limit.min(calls);
    }
    if let Some(calls) = part.count("max") {
        limit = limit.max(calls);
    }
    match part.count("initial") {
        Some(calls) => limit.initial(calls),
        None => limit,
    }
}

pub(super) fn throttle(view: View<'_>) -> throttle::Config {
    let part = view.part("throttle", &sections::THROTTLE);
    let mut config = throttle::Config::default().enforce(part.truth("enforce") != Some(false));
    if let Some(k) = part.text("k").and_then(value::decimal) {
        config = config.k(k);
    }
    if let Some(window) = part.duration("window") {
        config = config.window(window);
    }
    if let Some(share) = part.share("most") {
        config = config.most(share);
    }
    match part.count("min_calls") {
        Some(calls) => config.min_requests(calls),
        None => config,
    }
}
