//! The canaries of routes.

use super::Page;
use crate::table::Table;

/// The states, one of which each canary is in.
const STATES: [&str; 5] = ["running", "paused", "promoting", "done", "rolled_back"];

pub(super) fn of_canaries(page: &mut Page, table: &Table) {
    let all: Vec<_> = table
        .routes
        .iter()
        .filter_map(|route| Some((route.name(), &route.canary.as_ref()?.rollout)))
        .map(|(route, rollout)| (route, rollout, rollout.stats()))
        .collect();
    let help = "the share of a route's traffic that its new version gets";
    page.family("outlast_canary_share", "gauge", help);
    for (route, _, stats) in &all {
        let labels = [("route", *route)];
        page.sample("outlast_canary_share", &labels, stats.share.as_f64());
    }
    page.family("outlast_canary_state", "gauge", "1 for the state it is in");
    for (route, _, stats) in &all {
        for state in STATES {
            let labels = [("route", *route), ("state", state)];
            let is = u8::from(stats.state.name() == state);
            page.sample("outlast_canary_state", &labels, is);
        }
    }
    let help = "requests that were compared, by version";
    page.family("outlast_canary_calls_total", "counter", help);
    for (route, _, stats) in &all {
        for (side, tally) in [("baseline", stats.baseline), ("canary", stats.canary)] {
            let labels = [("route", *route), ("side", side)];
            page.sample("outlast_canary_calls_total", &labels, tally.calls);
        }
    }
    let help = "requests that were compared and failed, by version";
    page.family("outlast_canary_errors_total", "counter", help);
    for (route, _, stats) in &all {
        for (side, tally) in [("baseline", stats.baseline), ("canary", stats.canary)] {
            let labels = [("route", *route), ("side", side)];
            page.sample("outlast_canary_errors_total", &labels, tally.errors);
        }
    }
    page.family(
        "outlast_canary_decisions_total",
        "counter",
        "decisions of the analysis and of operators",
    );
    for (route, rollout, _) in &all {
        for (what, count) in rollout.decided() {
            let labels = [("route", *route), ("decision", what)];
            page.sample("outlast_canary_decisions_total", &labels, count);
        }
    }
}
