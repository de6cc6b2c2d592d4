//! The policies of an upstream: from its section to the core's own configuration.
//!
//! The core decides what can work; what it refuses is reported at the setting it names.

mod entry;
mod redundancy;

use std::num::NonZeroU32;
use std::time::Duration;

use outlast_core::backoff::{Backoff, Jitter};
use outlast_core::config::ConfigError;
use outlast_core::ratio::Ratio;
use outlast_core::upstream::Config;
use outlast_core::window::Window;
use outlast_core::{
    breaker, budget, bulkhead, deadline, failover, fallback, fault, hedge, rate, retry,
};

use crate::plan::Endpoint;
use crate::problem::{Place, Problem};
use crate::sections;
use crate::shape::Section;
use crate::value;
use crate::view::View;

/// The policies of the upstream `name` with these endpoints, in order. They are tried out, unless
/// the endpoints are not `complete`, because that has been reported.
pub(crate) fn policies(
    name: &str,
    endpoints: &[Endpoint],
    view: View<'_>,
    complete: bool,
    problems: &mut Vec<Problem>,
) -> Config {
    let mut config = Config::new(name);
    for endpoint in endpoints {
        config = config.endpoint_with(endpoint.described());
    }
    let before = problems.len();
    config = config.deadline(deadline(view)).budget(budget(view));
    if let Some(balance) = redundancy::balance(view) {
        config = config.balance(balance);
    }
    if view.node_of("throttle").is_some() {
        config = config.throttle(entry::throttle(view));
    }
    if view.node_of("shed").is_some() {
        config = config.shed(entry::shed(view));
    }
    if let Some(rate) = view.given_part("rate", section("rate")) {
        config = config.rate(self::rate(rate));
    }
    if view.node_of("retry").is_some() {
        config = config.retry(retry(view.part("retry", section("retry"))));
    }
    if let Some(hedge) = view.given_part("hedge", section("hedge")).and_then(hedge) {
        config = config.hedge(hedge);
    }
    if view.node_of("failover").is_some() {
        let part = view.given_part("failover", section("failover"));
        let enforce = part.is_none_or(|part| part.truth("enforce") != Some(false));
        config = config.failover(failover::Config::ordered().enforce(enforce));
    }
    if view.node_of("breaker").is_some() {
        config = config.breaker(breaker(view.part("breaker", &sections::BREAKER)));
    }
    if let Some(bulkhead) = bulkhead(view) {
        config = config.bulkhead(bulkhead);
    }
    let part = view.part("fallback", section("fallback"));
    config = config.fallback(
        fallback::Config::default()
            .cover_permanent(part.truth("permanent") == Some(true))
            .enforce(part.truth("enforce") != Some(false)),
    );
    if let Some(part) = view.given_part("fault", section("fault"))
        && let Some(fault) = fault(part, problems)
    {
        config = config.fault(fault);
    }
    if complete
        && problems.len() == before
        && let Err(error) = outlast_core::upstream::Upstream::new(config.clone(), 0)
    {
        let refused = refused(view, &error);
        // A value that did not fit has been reported already.
        if problems.iter().all(|known| known.place != refused.place) {
            problems.push(refused);
        }
    }
    config
}

/// A refusal of the core, at the setting that it names.
fn refused(view: View<'_>, error: &ConfigError) -> Problem {
    let text = error.to_string();
    let setting = error.setting();
    let (policy, key) = setting.split_once('.').unwrap_or((setting, ""));
    let known = sections::UPSTREAM.key(policy).is_some();
    let place = if known {
        place_in(view, policy, key)
    } else {
        view.place_of("endpoints")
    };
    let mend = text.strip_prefix(setting).unwrap_or(&text).trim_start();
    Problem::new(
        place,
        format!("`{setting}` cannot work"),
        format!("it {mend}"),
    )
}

fn place_in(view: View<'_>, policy: &str, key: &str) -> Place {
    let entry = view.node_of(policy).and_then(|node| node.entry(key));
    entry.map_or(view.place_of(policy), |entry| entry.node.place)
}

/// The section under a key of an upstream.
fn section(key: &str) -> &'static Section {
    section_of(&sections::UPSTREAM, key)
}

pub(crate) fn section_of(section: &'static Section, key: &str) -> &'static Section {
    let key = section.key(key).expect("the key is described");
    key.kind.section().expect("the key has a section")
}

fn deadline(view: View<'_>) -> deadline::Config {
    let config = match view.duration("deadline") {
        Some(limit) => deadline::Config::call(limit),
        None => deadline::Config::default(),
    };
    // Only what was written is a limit that somebody thought about.
    let config = match view
        .node_of("timeout")
        .and_then(|_| view.duration("timeout"))
    {
        Some(timeout) => config.attempt(timeout),
        None => config,
    };
    config.enforce(view.truth("enforce_deadline") != Some(false))
}

fn budget(view: View<'_>) -> Option<budget::Config> {
    if view.text("budget") == Some("off") {
        return None;
    }
    let default = budget::Config::default();
    let Some(part) = view.given_part("budget", section("budget")) else {
        return Some(view.share("budget").map_or(default, budget::Config::new));
    };
    let mut config = part.share("ratio").map_or(default, budget::Config::new);
    if let Some(window) = part.duration("window") {
        config = config.window(window);
    }
    if let Some(reserve) = part.count("reserve") {
        config = config.reserve(reserve);
    }
    Some(config.enforce(part.truth("enforce") != Some(false)))
}

fn rate(part: View<'_>) -> rate::Config {
    let calls = part.count("calls").unwrap_or(1);
    let per = part.duration("per").unwrap_or(Duration::from_secs(1));
    let mut config = rate::Config::new(calls, per).enforce(part.truth("enforce") != Some(false));
    if let Some(burst) = part.count("burst") {
        config = config.burst(burst);
    }
    if let Some(wait) = part.duration("wait") {
        config = config.wait(wait);
    }
    if part.node_of("per_key").is_some() {
        let per_key = part.part("per_key", section_of(section("rate"), "per_key"));
        config = config.per_key(per_key.count("keys").unwrap_or(10_000));
    }
    config
}

fn retry(part: View<'_>) -> retry::Config {
    let mut config = retry::Config::default();
    if let Some(attempts) = part.count("attempts") {
        config = retry::Config::attempts(attempts);
    }
    if part.node_of("backoff").is_some() {
        config = config.backoff(backoff(part, "backoff"));
    }
    if let Some(hint) = part.duration("longest_hint") {
        config = config.longest_hint(hint);
    }
    config.enforce(part.truth("enforce") != Some(false))
}

/// A duration alone is a constant wait.
pub(crate) fn backoff(view: View<'_>, key: &str) -> Backoff {
    if let Some(wait) = view.duration(key) {
        return Backoff::constant(wait);
    }
    let part = view.part(key, &sections::BACKOFF);
    let is_cooldown = key == "cooldown";
    let base = part.duration("base").unwrap_or(Duration::from_millis(50));
    let mut backoff = match part.text("kind") {
        Some("linear") => Backoff::linear(base),
        Some("fibonacci") => Backoff::fibonacci(base),
        Some("constant") => Backoff::constant(base),
        Some("decorrelated") => Backoff::decorrelated(base),
        Some("quadratic") => Backoff::quadratic(base),
        None if !is_cooldown && part.text("factor").is_none() => Backoff::quadratic(base),
        _ => Backoff::exponential(base),
    };
    // A cooldown that full jitter shortens to nothing would be none.
    if is_cooldown
        && matches!(
            part.text("kind"),
            None | Some("quadratic" | "exponential" | "linear" | "fibonacci")
        )
    {
        backoff = backoff.jitter(Jitter::Proportional(Ratio::percent(20)));
    }
    if let Some(factor) = part.text("factor").and_then(value::decimal) {
        backoff = backoff.factor(factor);
    }
    if let Some(jitter) = part.text("jitter") {
        backoff = backoff.jitter(match jitter {
            "full" => Jitter::Full,
            "equal" => Jitter::Equal,
            "none" => Jitter::None,
            share => value::share(share).map_or(Jitter::Full, Jitter::Proportional),
        });
    }
    match part.duration("max") {
        Some(max) => backoff.max(max),
        None => backoff,
    }
}

fn hedge(part: View<'_>) -> Option<hedge::Config> {
    let after = part.text("after")?;
    let mut config = match value::quantile(after) {
        Some(quantile) => hedge::Config::after_quantile(quantile),
        None => hedge::Config::after(value::duration(after).ok()?),
    };
    if let Some(floor) = part.duration("floor") {
        config = config.floor(floor);
    }
    if let Some(samples) = part.count("min_samples") {
        config = config.min_samples(samples);
    }
    if let Some(hedges) = part.count("hedges") {
        config = config.hedges(hedges);
    }
    Some(config.enforce(part.truth("enforce") != Some(false)))
}

fn bulkhead(view: View<'_>) -> Option<bulkhead::Config> {
    if let Some(concurrency) = view.count("bulkhead") {
        return Some(bulkhead::Config::new(concurrency));
    }
    let part = view.given_part("bulkhead", section("bulkhead"))?;
    let mut config = bulkhead::Config::new(part.count("concurrency")?);
    if let Some(queue) = part.count("queue") {
        config = config.queue(queue);
    }
    if let Some(timeout) = part.duration("queue_timeout") {
        config = config.queue_timeout(timeout);
    }
    Some(config.enforce(part.truth("enforce") != Some(false)))
}

fn breaker(part: View<'_>) -> breaker::Config {
    let mut config = rules(part);
    if let Some(within) = part.text("within") {
        let calls = value::count(within, 1, 10_000).ok();
        let calls = calls.and_then(|calls| NonZeroU32::new(u32::try_from(calls).ok()?));
        let window = calls.map(Window::Calls);
        let window = window.or_else(|| value::duration(within).ok().map(Window::Time));
        config = window.map_or(config.clone(), |window| config.window(window));
    }
    if let Some(calls) = part
        .count("min_calls")
        .filter(|_| part.node_of("min_calls").is_some())
    {
        config = config.min_calls(calls);
    }
    config = match part.node_of("cooldown") {
        Some(_) => config.cooldown(backoff(part, "cooldown")),
        None => config.soon(),
    };
    type Set<T> = fn(breaker::Config, T) -> breaker::Config;
    let counts: [(&str, Set<u32>); 3] = [
        ("trials", breaker::Config::trials),
        ("successes", breaker::Config::successes),
        ("tolerate", breaker::Config::tolerate),
    ];
    for (key, set) in counts {
        if let Some(count) = part.count(key) {
            config = set(config, count);
        }
    }
    let times: [(&str, Set<Duration>); 2] = [
        ("lease", breaker::Config::lease),
        ("patience", breaker::Config::patience),
    ];
    for (key, set) in times {
        if let Some(time) = part.duration(key) {
            config = set(config, time);
        }
    }
    config.enforce(part.truth("enforce") != Some(false))
}

/// The rules alone; without one, the core's default.
fn rules(part: View<'_>) -> breaker::Config {
    let default = Window::Time(Duration::from_secs(30));
    let mut config: Option<breaker::Config> = None;
    if let Some(failures) = part.count("consecutive") {
        config = Some(breaker::Config::consecutive(failures));
    }
    if let Some(failures) = part.count("failures") {
        config = Some(match config {
            Some(config) => config.or_failures(failures),
            None => breaker::Config::failures(failures, default),
        });
    }
    if let Some(ratio) = part.share("ratio") {
        config = Some(match config {
            Some(config) => config.or_failure_ratio(ratio),
            None => breaker::Config::failure_ratio(ratio, default),
        });
    }
    let slow = part.given_part("slow", section_of(&sections::BREAKER, "slow"));
    if let Some((after, ratio)) =
        slow.and_then(|slow| slow.duration("after").zip(slow.share("ratio")))
    {
        config = Some(match config {
            Some(config) => config.or_slow_calls(after, ratio),
            None => breaker::Config::slow_calls(after, ratio, default),
        });
    }
    config.unwrap_or_default()
}

fn fault(part: View<'_>, problems: &mut Vec<Problem>) -> Option<fault::Config> {
    let harms = [
        part.duration("delay").map(fault::Fault::Delay),
        (part.truth("error") == Some(true)).then_some(fault::Fault::Error),
        (part.truth("hang") == Some(true)).then_some(fault::Fault::Hang),
    ];
    let mut harms = harms.into_iter().flatten();
    let (Some(harm), None) = (harms.next(), harms.next()) else {
        let place = part.node.map_or(Place::START, |node| node.place);
        let mend = "give exactly one of `delay`, `error: true` and `hang: true`";
        problems.push(Problem::new(place, "a fault does one thing", mend));
        return None;
    };
    let on = part.truth("on") != Some(false);
    Some(fault::Config::new(harm, part.share("rate")?).on(on))
}
