//! The modes with their conditions, and what is on in which.

use outlast_core::degrade::{self, Condition, Row};
use outlast_core::tier::Tier;

use crate::Loaded;
use crate::explain::{line, setting};
use crate::plan::{Degrade, Feature, Mode, Plan};
use crate::sections::DEGRADE;

pub(crate) fn explain(page: &mut String, loaded: &Loaded, degrade: &Degrade) {
    line(page, 0, format_args!("degrade"));
    let section = loaded.root.entry("degrade").map(|entry| &entry.node);
    for name in ["window", "min_calls", "enforce"] {
        let key = DEGRADE.key(name).expect("the key is described");
        let given = section.and_then(|node| node.entry(name));
        setting(page, given.map(|entry| &entry.node), key, 1);
    }
    for mode in &degrade.modes {
        of_mode(page, mode);
    }
    for feature in &degrade.features {
        of_feature(page, feature, &loaded.plan);
    }
    matrix(page, degrade);
}

fn of_mode(page: &mut String, mode: &Mode) {
    line(page, 1, format_args!("mode {}", mode.name));
    if mode.when.is_empty() {
        line(page, 2, format_args!("begins: only by hand"));
    } else {
        let when = joined(&mode.when, " or ");
        line(
            page,
            2,
            format_args!("begins: {when}, for {:?}", mode.after),
        );
        let off = joined(&mode.off, " and ");
        line(
            page,
            2,
            format_args!("ends: {off}, for {:?}", mode.off_after),
        );
    }
    let mut off: Vec<_> = mode.disable.iter().map(|tier| tier.name()).collect();
    off.extend(mode.switch_off.iter().map(String::as_str));
    if !off.is_empty() {
        line(page, 2, format_args!("disables: {}", off.join(", ")));
    }
    if mode.serve_stale {
        line(
            page,
            2,
            format_args!("serves stale copies for failed calls"),
        );
    }
}

fn joined(conditions: &[Condition], between: &str) -> String {
    let texts: Vec<_> = conditions.iter().map(Condition::to_string).collect();
    texts.join(between)
}

fn of_feature(page: &mut String, feature: &Feature, plan: &Plan) {
    let routes: Vec<_> = feature
        .routes
        .iter()
        .map(|&at| plan.routes[at].name.as_str())
        .collect();
    let routes = match routes.as_slice() {
        [] => "no route".to_owned(),
        names => format!("routes {}", names.join(", ")),
    };
    let instead = match &feature.instead {
        Some(answer) => format!("{} with {} bytes", answer.status, answer.body.len()),
        None => "a stale copy, or 503".to_owned(),
    };
    line(
        page,
        1,
        format_args!(
            "feature {}: tier {}, {routes}, instead {instead}",
            feature.name,
            feature.tier.name()
        ),
    );
}

/// A row per tier and feature, a column per mode.
fn matrix(page: &mut String, degrade: &Degrade) {
    let Ok(built) = degrade::Degrade::new(degrade.policy.clone()) else {
        return;
    };
    let matrix = built.matrix();
    let tiers = Tier::ALL.map(|tier| format!("{} routes", tier.name()));
    let names = matrix.features.iter().map(|(name, _)| name.clone());
    let names: Vec<String> = tiers.into_iter().chain(names).collect();
    let first = names.iter().map(String::len).max().unwrap_or(0);
    let mut rows = vec![format!("{:first$}", "")];
    rows.extend(names.iter().map(|name| format!("{name:first$}")));
    for row in &matrix.rows {
        let width = row.mode.len().max(3);
        for (line, cell) in rows.iter_mut().zip(column(row)) {
            line.push_str(&format!("  {cell:width$}"));
        }
    }
    line(page, 1, format_args!("on in mode"));
    for row in rows {
        line(page, 2, format_args!("{}", row.trim_end()));
    }
}

fn column(row: &Row) -> Vec<&str> {
    let all = row.tiers.iter().chain(&row.features);
    let cells = all.map(|on| if *on { "on" } else { "off" });
    std::iter::once(row.mode.as_str()).chain(cells).collect()
}
