//! Modes: their conditions, and what they disable.

use std::sync::Arc;

use outlast_core::config::ConfigError;
use outlast_core::degrade::{self, Condition, Limit, Quantile};
use outlast_core::tier::Tier;

use super::{refused, unknown};
use crate::plan::{Feature, Mode};
use crate::policies::section_of;
use crate::problem::{Place, Problem};
use crate::sections::MODE;
use crate::shape::Section;
use crate::value;
use crate::view::View;
use crate::yaml::Entry;

/// Reads modes one by one.
pub(super) struct Reader<'a, 'p> {
    pub(super) file: View<'a>,
    pub(super) features: &'p [Feature],
    pub(super) problems: &'p mut Vec<Problem>,
}

impl Reader<'_, '_> {
    /// A mode for the core and for the plan; `None` if what is wrong with it has been reported.
    pub(super) fn mode(&mut self, entry: &Entry) -> Option<(degrade::Mode, Mode)> {
        let before = self.problems.len();
        let view = View::new(&entry.node, &MODE);
        let taken = match entry.key.as_str() {
            "auto" => Some("`auto` means that signals decide, and is no mode"),
            "normal" => Some("`normal` means that there is no mode"),
            _ => None,
        };
        if let Some(message) = taken {
            self.problem(entry.key_place, message, "give it another name");
        }
        let when = view.part("when", section_of(&MODE, "when"));
        let off = view.part("off", section_of(&MODE, "off"));
        let begins = self.conditions(when, section_of(&MODE, "when"), ("open", "any"));
        let ends = self.conditions(off, section_of(&MODE, "off"), ("closed", "all"));
        if view.node_of("when").is_some() && begins.is_empty() && self.problems.len() == before {
            let mend = "name a sign such as `p99: '> 500ms'`, or leave `when` out: then only a hand switches it on";
            self.problem(view.place_of("when"), "it looks at nothing", mend);
        }
        let mut mode = degrade::Mode::new(&entry.key)
            .after(when.duration("for").unwrap_or_default())
            .serve_stale(view.truth("serve_stale") == Some(true));
        mode = begins.iter().cloned().fold(mode, degrade::Mode::when);
        mode = ends.into_iter().fold(mode, degrade::Mode::off);
        if let Some(dwell) = off.duration("for") {
            mode = mode.off_after(dwell);
        }
        let disable: Vec<Tier> = view
            .texts("disable")
            .into_iter()
            .filter_map(|(name, _)| name.parse().ok())
            .collect();
        mode = disable.iter().copied().fold(mode, degrade::Mode::disable);
        let switch_off = self.named(view);
        mode = switch_off.iter().fold(mode, degrade::Mode::switch_off);
        let read = Mode {
            name: entry.key.clone(),
            when: begins,
            after: when.duration("for").unwrap_or_default(),
            off: mode.off_conditions(),
            off_after: mode.off_dwell(),
            disable,
            switch_off,
            serve_stale: view.truth("serve_stale") == Some(true),
        };
        (self.problems.len() == before).then_some((mode, read))
    }

    /// The features that it switches off by name.
    fn named(&mut self, view: View<'_>) -> Vec<String> {
        let mut named = Vec::new();
        for (name, place) in view.texts("switch_off") {
            let known = self.features.iter().map(|feature| feature.name.as_str());
            if !known.clone().any(|known| known == name) {
                self.problems.push(unknown("feature", name, place, known));
            }
            named.push(name.to_owned());
        }
        named
    }

    /// The conditions of `when` or `off`; a breaker is named below the first of `breaker`, and all
    /// of them are meant by the second.
    fn conditions(
        &mut self,
        view: View<'_>,
        section: &'static Section,
        breaker: (&str, &str),
    ) -> Vec<Condition> {
        let mut found = Vec::new();
        for quantile in Quantile::ALL {
            let limit = limit(view, quantile.name(), value::duration);
            let condition = limit.map(|limit| Condition::Latency(quantile, limit));
            found.extend(self.checked(view, quantile.name(), condition));
        }
        let errors = limit(view, "errors", value::share).map(Condition::Errors);
        found.extend(self.checked(view, "errors", errors));
        let load = limit(view, "load", value::share).map(Condition::Load);
        found.extend(self.checked(view, "load", load));
        let (key, all) = breaker;
        let opens = key == "open";
        if let Some(part) = view.given_part("breaker", section_of(section, "breaker")) {
            for (name, place) in part.texts(key) {
                let upstream = self.breaker_of(name, place, all);
                found.push(match opens {
                    true => Condition::Open(upstream),
                    false => Condition::NotOpen(upstream),
                });
            }
        }
        if view.text("budget").is_some() {
            found.push(match opens {
                true => Condition::Exhausted,
                false => Condition::NotExhausted,
            });
        }
        found
    }

    fn breaker_of(&mut self, name: &str, place: Place, all: &str) -> Option<Arc<str>> {
        if name == all {
            return None;
        }
        let upstreams = self.file.names("upstreams").iter();
        let known = upstreams.map(|entry| entry.key.as_str()).chain([all]);
        if !known.clone().any(|known| known == name) {
            self.problems.push(unknown("upstream", name, place, known));
        }
        Some(name.into())
    }

    /// A condition, if it can hold at all.
    fn checked(
        &mut self,
        view: View<'_>,
        key: &str,
        condition: Option<Condition>,
    ) -> Option<Condition> {
        let condition = condition?;
        let mode = degrade::Mode::new("mode").when(condition.clone());
        match degrade::Degrade::new(degrade::Config::default().mode(mode)) {
            Ok(_) => Some(condition),
            Err(error) => {
                self.problems.push(refused(&error, view.value_place(key)));
                None
            }
        }
    }

    /// A refusal of the core, at the key of the mode that it names.
    pub(super) fn refuse(&mut self, entry: &Entry, error: &ConfigError) {
        let view = View::new(&entry.node, &MODE);
        let part = |key: &str| view.part(key, section_of(&MODE, key));
        let place = match error.setting() {
            "degrade.off" => view.place_of("off"),
            "degrade.when" => view.place_of("when"),
            "degrade.for" => part("when").value_place("for"),
            "degrade.off.for" => part("off").value_place("for"),
            "degrade.disable" => view.place_of("disable"),
            _ => entry.key_place,
        };
        self.problems.push(refused(error, place));
    }

    /// Alone it would work, but not behind those before it.
    pub(super) fn refuse_order(
        &mut self,
        entry: &Entry,
        error: &ConfigError,
        before: Option<&Mode>,
    ) {
        let view = View::new(&entry.node, &MODE);
        let Some(before) = before.filter(|_| error.to_string().contains("severity")) else {
            return self.problems.push(refused(error, entry.key_place));
        };
        let place = if view.entry("disable").is_some() {
            view.place_of("disable")
        } else {
            entry.key_place
        };
        let message = format!(
            "`{}` leaves on what `{}` before it has switched off",
            entry.key, before.name
        );
        let mut given: Vec<_> = before.disable.iter().map(|tier| tier.name()).collect();
        given.extend(before.switch_off.iter().map(String::as_str));
        let given = given.join(", ");
        self.problem(
            place,
            message,
            format!("modes stand from the mildest to the most severe: disable {given} here, too"),
        );
    }

    fn problem(&mut self, place: Place, message: impl Into<String>, mend: impl Into<String>) {
        self.problems.push(Problem::new(place, message, mend));
    }
}

/// A side and a threshold.
fn limit<T>(
    view: View<'_>,
    key: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Limit<T>> {
    let (above, threshold) = value::limit(view.text(key)?)?;
    let threshold = read(threshold).ok()?;
    Some(match above {
        true => Limit::Above(threshold),
        false => Limit::Below(threshold),
    })
}
