//! The canary of a route: from its section to the core's own configuration.

use outlast_core::canary::{self, Config};
use outlast_core::ratio::Ratio;
use outlast_core::time::Time;

use super::Reader;
use crate::plan::{Canary, Sticky};
use crate::policies::section_of;
use crate::problem::Place;
use crate::sections::CANARY;
use crate::value;
use crate::view::View;

impl Reader<'_, '_> {
    pub(super) fn canary(&mut self, route: View<'_>) -> Option<Canary> {
        let view = route.given_part("canary", &CANARY)?;
        let upstream = self.upstream_named(view, "upstream");
        let old = route.text("upstream").unwrap_or_default();
        if view.text("upstream") == Some(old) {
            self.problem(
                view.value_place("upstream"),
                format!("`{old}` cannot be compared with itself"),
                "name the new version here; the route's `upstream` is the old one",
            );
        }
        if is_blue_green(view) && view.node_of("steps").is_some() {
            self.problem(
                view.place_of("steps"),
                "blue-green has the steps 0% and 100%",
                "leave `steps` out, or leave `kind` out and begin the steps with 0%",
            );
        }
        let policy = policy(view);
        if let Err(error) = canary::Canary::new(policy.clone(), 0, Time::ZERO) {
            let setting = error.setting();
            let text = error.to_string();
            let mend = text.strip_prefix(setting).unwrap_or(&text).trim_start();
            let place = place_of(view, setting);
            // A value that did not fit has been reported already.
            if self.problems.iter().all(|known| known.place != place) {
                self.problem(
                    place,
                    format!("`{setting}` cannot work"),
                    format!("it {mend}"),
                );
            }
        }
        let source = view.node.map(|node| format!("{old} {}", node.canonical()));
        Some(Canary {
            upstream: upstream?,
            policy,
            sticky: self.sticky(view),
            source: source?,
        })
    }

    fn sticky(&mut self, view: View<'_>) -> Sticky {
        let part = view.part("sticky", section_of(&CANARY, "sticky"));
        match (view.text("sticky"), part.text("header")) {
            (Some("off"), _) => Sticky::Off,
            (None, Some(name)) => {
                self.check_header(part, "header", name);
                Sticky::Header(name.to_ascii_lowercase())
            }
            _ => Sticky::Client,
        }
    }
}

fn is_blue_green(view: View<'_>) -> bool {
    view.text("kind") == Some("blue_green")
}

fn policy(view: View<'_>) -> Config {
    let mut config = if is_blue_green(view) {
        Config::blue_green()
    } else {
        Config::default()
    };
    if let Some(steps) = steps(view) {
        config = config.steps(steps);
    }
    if let Some(time) = view.duration("min_time") {
        config = config.min_time(time);
    }
    if let Some(calls) = view.count("min_calls") {
        config = config.min_calls(calls);
    }
    if let Some(limit) = view.duration("limit") {
        config = config.limit(limit);
    }
    if let Some(watch) = view.duration("watch") {
        config = config.watch(watch);
    }
    let worsening = view.part("worsening", section_of(&CANARY, "worsening"));
    let factor = worsening.text("factor").and_then(value::decimal);
    if let Some((factor, absolute)) = factor.zip(worsening.share("absolute")) {
        config = config.worsening(factor, absolute);
    }
    config = match view.text("slower") {
        Some("off") => config.slower(None),
        Some(factor) => config.slower(value::decimal(factor)),
        None => config,
    };
    if let Some(alpha) = view.share("alpha") {
        config = config.alpha(alpha);
    }
    if let Some(beta) = view.share("beta") {
        config = config.beta(beta);
    }
    if let Some(by) = view.text("promote") {
        config = config.promote(by == "auto");
    }
    config
        .roll_back(view.text("roll_back") != Some("manual"))
        .permanent_fails(view.truth("permanent_fails") == Some(true))
}

/// The steps that are given, unless one of them was no share and has been reported.
fn steps(view: View<'_>) -> Option<Vec<Ratio>> {
    view.node_of("steps")?;
    let texts = view.texts("steps").into_iter();
    texts.map(|(text, _)| value::share(text).ok()).collect()
}

/// Where a setting of the core's stands: `canary.worsening.factor`.
fn place_of(view: View<'_>, setting: &str) -> Place {
    let keys = setting.split('.').skip(1);
    let mut place = view.node.map_or(Place::START, |node| node.place);
    let mut at = view.node;
    for key in keys {
        let Some(entry) = at.and_then(|node| node.entry(key)) else {
            break;
        };
        place = entry.node.place;
        at = Some(&entry.node);
    }
    place
}
