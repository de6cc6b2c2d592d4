//! `degrade`: from its section to the core's modes and features, and to the routes they concern.
//!
//! The core decides what can work. It is asked mode by mode, so that what it refuses is reported in
//! the mode that is meant, and all of it at once.

mod explain;
mod features;
mod modes;
mod warn;

use std::path::Path;

use outlast_core::config::ConfigError;
use outlast_core::degrade::{self, Meter};

pub(crate) use self::explain::explain;
use self::modes::Reader;
pub(crate) use self::warn::warn;
use crate::plan::{Degrade, Plan};
use crate::problem::{Place, Problem, did_you_mean};
use crate::sections::DEGRADE;
use crate::view::View;

/// Reads `degrade`, if there is one. Routes of a feature that have no tier of their own get its.
pub(crate) fn read(
    file: View<'_>,
    folder: &Path,
    plan: &mut Plan,
    problems: &mut Vec<Problem>,
) -> Option<Degrade> {
    file.entry("degrade")?;
    let view = file.part("degrade", &DEGRADE);
    let features = features::read(file, view, folder, plan, problems);
    let window = view.duration("window").unwrap_or_default();
    let min_calls = view.count("min_calls").unwrap_or_default();
    if let Err(error) = Meter::new(window, min_calls.max(1)) {
        problems.push(refused(&error, view.value_place("window")));
    }
    let enforce = view.truth("enforce") != Some(false);
    let base = features
        .iter()
        .fold(degrade::Config::default(), |config, feature| {
            config.feature(&feature.name, feature.tier)
        })
        .enforce(enforce);
    if let Err(error) = degrade::Degrade::new(base.clone()) {
        problems.push(refused(&error, view.place_of("features")));
        return None;
    }
    let mut reader = Reader {
        file,
        features: &features,
        problems,
    };
    let (mut policy, mut modes) = (base.clone(), Vec::new());
    for entry in view.names("modes") {
        let Some((mode, read)) = reader.mode(entry) else {
            continue;
        };
        let with = |config: &degrade::Config| config.clone().mode(mode.clone());
        if let Err(error) = degrade::Degrade::new(with(&base)) {
            reader.refuse(entry, &error);
            continue;
        }
        if let Err(error) = degrade::Degrade::new(with(&policy)) {
            reader.refuse_order(entry, &error, modes.last());
            continue;
        }
        policy = with(&policy);
        modes.push(read);
    }
    let tiers = features.iter().map(|feature| (&feature.name, feature.tier));
    let decisive = (
        &modes,
        tiers.collect::<Vec<_>>(),
        window,
        min_calls,
        enforce,
    );
    Some(Degrade {
        source: format!("{decisive:?}"),
        policy,
        window,
        min_calls,
        enforce,
        modes,
        features,
    })
}

fn refused(error: &ConfigError, place: Place) -> Problem {
    let (text, setting) = (error.to_string(), error.setting());
    let mend = text.strip_prefix(setting).unwrap_or(&text).trim_start();
    Problem::new(
        place,
        format!("`{setting}` cannot work"),
        format!("it {mend}"),
    )
}

/// A name of something that is not there.
fn unknown<'a>(
    what: &str,
    name: &str,
    place: Place,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Problem {
    let mend = match did_you_mean(name, known.clone()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("there is: {}", known.collect::<Vec<_>>().join(", ")),
    };
    Problem::new(place, format!("there is no {what} `{name}`"), mend)
}
