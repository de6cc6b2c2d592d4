//! Modes that cannot begin, that would come and go, and that have nothing to disable.

use std::time::Duration;

use outlast_core::degrade::{Condition, Limit};

use crate::plan::{Degrade, Mode, Plan};
use crate::policies::section_of;
use crate::problem::Problem;
use crate::sections::{self, DEGRADE, FEATURE, MODE};
use crate::view::View;
use crate::yaml::Entry;

/// Looks at a section that has no errors.
pub(crate) fn warn(file: View<'_>, plan: &Plan, found: &mut Vec<Problem>) {
    let Some(degrade) = &plan.degrade else {
        return;
    };
    let view = file.part("degrade", &DEGRADE);
    for (entry, mode) in view.names("modes").iter().zip(&degrade.modes) {
        let view = View::new(&entry.node, &MODE);
        let when = view.part("when", section_of(&MODE, "when"));
        for condition in &mode.when {
            if let Some(why) = never(condition, file, plan) {
                let place = when.value_place(key_of(condition));
                let mend = "look at something else, or configure what it looks at";
                found.push(Problem::new(
                    place,
                    format!("`{condition}` never holds: {why}"),
                    mend,
                ));
            }
        }
        flaps(view, mode, found);
        idles(view, mode, degrade, plan, found);
    }
    for (entry, feature) in view.names("features").iter().zip(&degrade.features) {
        if feature.routes.is_empty() && feature.instead.is_some() {
            let place = View::new(&entry.node, &FEATURE).place_of("instead");
            let mend = "name the upstream or the routes that serve it";
            found.push(Problem::new(place, "no route shows this answer", mend));
        }
        for &at in &feature.routes {
            let route = &plan.routes[at];
            if route.tier == feature.tier {
                continue;
            }
            let message = format!(
                "`{}` is {}, but it is switched off with `{}`, which is {}",
                route.name,
                route.tier.name(),
                feature.name,
                feature.tier.name()
            );
            let mend = "leave the route's tier out: it takes that of its feature";
            found.push(Problem::new(tier_of(file, &route.name), message, mend));
        }
    }
}

fn tier_of(file: View<'_>, route: &str) -> crate::problem::Place {
    let mut routes = file.names("routes").iter();
    let entry = routes.find(|entry| entry.key == route);
    entry.map_or(crate::problem::Place::START, |entry| {
        View::new(&entry.node, &sections::ROUTE).value_place("tier")
    })
}

fn key_of(condition: &Condition) -> &'static str {
    match condition {
        Condition::Latency(quantile, _) => quantile.name(),
        Condition::Errors(_) => "errors",
        Condition::Load(_) => "load",
        Condition::Open(_) | Condition::NotOpen(_) => "breaker",
        Condition::Exhausted | Condition::NotExhausted => "budget",
    }
}

/// Why a condition cannot hold in this file.
fn never(condition: &Condition, file: View<'_>, plan: &Plan) -> Option<String> {
    let upstreams = file.names("upstreams");
    let has = |entry: &Entry, key: &str| entry.node.entry(key).is_some();
    match condition {
        Condition::Latency(_, Limit::Above(limit)) => {
            let deadlines: Option<Vec<Duration>> =
                plan.routes.iter().map(|route| route.deadline).collect();
            let longest = deadlines?.into_iter().max()?;
            // Quantiles are read an eighth too high.
            (*limit >= longest + longest / 8)
                .then(|| format!("every request ends at its deadline, at most {longest:?}"))
        }
        Condition::Load(_) => {
            let none = !upstreams.iter().any(|entry| has(entry, "bulkhead"));
            none.then(|| "no upstream has a bulkhead".to_owned())
        }
        Condition::Open(Some(name)) => {
            let mut named = upstreams.iter().filter(|entry| *entry.key == **name);
            let none = !named.any(|entry| has(entry, "breaker"));
            none.then(|| format!("`{name}` has no breaker"))
        }
        Condition::Open(None) => {
            let none = !upstreams.iter().any(|entry| has(entry, "breaker"));
            none.then(|| "no upstream has a breaker".to_owned())
        }
        Condition::Exhausted => {
            let extra = |entry: &Entry| {
                ["retry", "hedge", "failover"]
                    .iter()
                    .any(|key| has(entry, key))
            };
            let spends = |entry: &&Entry| {
                let view = View::new(&entry.node, &sections::UPSTREAM);
                extra(entry) && view.text("budget") != Some("off")
            };
            let none = upstreams.iter().find(spends).is_none();
            none.then(|| "no upstream spends a budget on extra attempts".to_owned())
        }
        _ => None,
    }
}

/// Thresholds that noise passes in turn, and an end that comes sooner than the beginning.
fn flaps(view: View<'_>, mode: &Mode, found: &mut Vec<Problem>) {
    let off = view.part("off", section_of(&MODE, "off"));
    for (when, end) in mode
        .when
        .iter()
        .flat_map(|when| mode.off.iter().map(move |off| (when, off)))
    {
        let close = match (when, end) {
            (Condition::Latency(a, when), Condition::Latency(b, off)) if a == b => {
                too_close(when, off, Duration::as_secs_f64)
            }
            (Condition::Errors(when), Condition::Errors(off))
            | (Condition::Load(when), Condition::Load(off)) => {
                too_close(when, off, |ratio| ratio.as_f64())
            }
            _ => false,
        };
        if close && off.entry(key_of(end)).is_some() {
            let message = format!("it ends where it begins: `{when}` and `{end}`");
            let mend = "leave a fifth between the two, or noise switches it on and off";
            found.push(Problem::new(off.value_place(key_of(end)), message, mend));
        }
    }
    if mode.off_after < mode.after {
        let message = format!(
            "it ends after {:?} of calm, sooner than it begins ({:?})",
            mode.off_after, mode.after
        );
        let mend = "stay longer than it took to begin, or it comes and goes";
        found.push(Problem::new(off.value_place("for"), message, mend));
    }
}

/// Less than an eighth apart, which is as exact as quantiles are.
fn too_close<T>(when: &Limit<T>, off: &Limit<T>, number: impl Fn(&T) -> f64) -> bool {
    match (when, off) {
        (Limit::Above(when), Limit::Below(off)) => number(off) > number(when) * 0.875,
        (Limit::Below(when), Limit::Above(off)) => number(off) * 0.875 < number(when),
        _ => false,
    }
}

/// Tiers that nothing has.
fn idles(view: View<'_>, mode: &Mode, degrade: &Degrade, plan: &Plan, found: &mut Vec<Problem>) {
    for tier in &mode.disable {
        let routes = plan.routes.iter().map(|route| route.tier);
        let mut all = routes.chain(degrade.features.iter().map(|feature| feature.tier));
        if !all.any(|known| known == *tier) {
            let message = format!("no route and no feature is {}", tier.name());
            let mend = "give what can be missed a `tier`";
            found.push(Problem::new(view.value_place("disable"), message, mend));
        }
    }
}
