//! The checks of a gateway: from their section to the core's own configuration.

use std::path::Path;

use outlast_core::config::ConfigError;
use outlast_core::health;
use outlast_core::ratio::Ratio;

use crate::plan::{Health, HealthCheck, Probe, Secret, Setting};
use crate::policies::section_of;
use crate::problem::{Place, Problem};
use crate::sections;
use crate::view::View;
use crate::yaml::Entry;

/// Reads `health`; paths are relative to `folder`.
pub(crate) fn health(view: View<'_>, folder: &Path, problems: &mut Vec<Problem>) -> Health {
    let stuck_after = view.duration("stuck_after").unwrap_or_default();
    if stuck_after < LEAST_STUCK {
        let mend = "write at least `100ms`; what is busy is not stuck";
        let message = "no executor is always that quick";
        problems.push(Problem::new(view.value_place("stuck_after"), message, mend));
    }
    let checks = view.names("checks").iter();
    Health {
        checks: checks
            .filter_map(|entry| check(entry, folder, problems))
            .collect(),
        upstreams: view.truth("upstreams") != Some(false),
        stuck_after,
        source: view.node.map(|node| node.canonical()).unwrap_or_default(),
    }
}

fn check(entry: &Entry, folder: &Path, problems: &mut Vec<Problem>) -> Option<HealthCheck> {
    let view = View::new(&entry.node, &sections::CHECK);
    let config = config(view);
    if let Err(error) = health::Check::new(&entry.key, config.clone()) {
        problems.push(refused(view, &error));
    }
    let given: Vec<_> = WAYS
        .into_iter()
        .filter(|way| view.node_of(way).is_some())
        .collect();
    let [way] = given[..] else {
        let message = format!("`{}` has to be probed in one way", entry.key);
        let ways = WAYS.map(|way| format!("`{way}`")).join(", ");
        let mend = format!("give exactly one of {ways}");
        problems.push(Problem::new(entry.key_place, message, mend));
        return None;
    };
    let probe = probe(view, way, folder);
    // A value that does not fit has been reported already, unless it is where a secret is kept.
    if probe.is_none() && view.given_part(way, &sections::CHECK).is_some() {
        let (message, mend) = (
            "a secret is kept in one place",
            "give either `file` or `env`",
        );
        problems.push(Problem::new(view.value_place(way), message, mend));
    }
    Some(HealthCheck {
        name: entry.key.clone(),
        probe: probe?,
        config,
    })
}

fn config(view: View<'_>) -> health::Config {
    let duration = |key| view.duration(key).unwrap_or_default();
    let on_demand = view.truth("on_demand") == Some(true);
    let given = view.node_of("critical").is_some() || !on_demand;
    let mut config = health::Config::default()
        .interval(duration("interval"))
        .timeout(duration("timeout"))
        .up_after(view.count("up_after").unwrap_or(1))
        .down_after(view.count("down_after").unwrap_or(1))
        .jitter(view.share("jitter").unwrap_or(Ratio::ZERO))
        .critical(given && view.truth("critical") != Some(false))
        .on_demand(on_demand);
    for (group, _) in view.texts("groups") {
        config = config.group(group);
    }
    config
}

/// How it is probed.
fn probe(view: View<'_>, way: &str, folder: &Path) -> Option<Probe> {
    let text = || view.text(way).map(str::to_owned);
    match way {
        "tcp" => text().map(Probe::Tcp),
        "http" => text().map(Probe::Http),
        "grpc" => Some(Probe::Grpc {
            url: text()?,
            service: view.text("service").unwrap_or_default().to_owned(),
        }),
        "redis" => setting(view, way, folder).map(Probe::Redis),
        "postgres" => setting(view, way, folder).map(Probe::Postgres),
        _ => Some(Probe::Disk {
            path: folder.join(text()?),
            free: view.share("free").unwrap_or(Ratio::ZERO),
        }),
    }
}

fn setting(view: View<'_>, key: &str, folder: &Path) -> Option<Setting> {
    if let Some(text) = view.text(key) {
        return Some(Setting::Plain(text.to_owned()));
    }
    let secret = view.given_part(key, section_of(&sections::CHECK, key))?;
    match (secret.text("file"), secret.text("env")) {
        (Some(file), None) => Some(Setting::Kept(Secret::File(folder.join(file)))),
        (None, Some(name)) => Some(Setting::Kept(Secret::Environment(name.to_owned()))),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// A refusal of the core, at the setting that it names.
fn refused(view: View<'_>, error: &ConfigError) -> Problem {
    let text = error.to_string();
    let setting = error.setting();
    let key = setting.strip_prefix("health.").unwrap_or(setting);
    let place = match sections::CHECK.key(key) {
        Some(_) => view.value_place(key),
        None => view.node.map_or(Place::START, |node| node.place),
    };
    let mend = text.strip_prefix(setting).unwrap_or(&text).trim_start();
    Problem::new(place, format!("`{key}` cannot work"), format!("it {mend}"))
}

const WAYS: [&str; 6] = ["tcp", "http", "grpc", "redis", "postgres", "disk"];
/// Below this, a busy processor looks like a stuck one.
const LEAST_STUCK: std::time::Duration = std::time::Duration::from_millis(100);
