//! Being let in by an adaptive limit, and returning the permit.

use std::time::Duration;

use outlast_core::outcome::Outcome;
use outlast_core::shed::{Admission, Config, Limit, Shed};
use outlast_core::tier::Tier;
use outlast_core::time::Time;
use tower_acc::{ConcurrencyLimitLayer, Gradient2, Vegas};

use crate::clock::passed_in;
use crate::measure::Bench;
use crate::peers::{self, SEATS};
use crate::table::{Goal, Group, Row};

pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    let ours = |limit: Limit| {
        let limit = limit.initial(SEATS).max(SEATS);
        let shed = Shed::new(Config::new(limit), 1).expect("the settings are sound");
        bench.shared(move || {
            let now = passed_in();
            match shed.admit(Tier::Important, Time::MAX, now) {
                Ok(Admission::Permit(permit)) => {
                    shed.record(permit, Outcome::Success, Duration::from_micros(10), now);
                }
                _ => panic!("the limit is far"),
            }
        })
    };
    let vegas = peers::adaptive(ConcurrencyLimitLayer::new(Vegas::default()));
    let gradient = peers::adaptive(ConcurrencyLimitLayer::new(Gradient2::default()));
    let group = Group::new("adaptive limit, a permit taken and returned")
        .row(
            Row::ours("capacity, time passed in", ours(Limit::capacity())).goals([
                Goal::Share {
                    numerator: 1.0,
                    denominator: 5.0,
                    of: VEGAS,
                },
                Goal::Allocations(0.0),
            ]),
        )
        .row(Row::ours("Vegas, time passed in", ours(Limit::vegas())))
        .row(Row::peer(VEGAS, bench.service(&vegas, true)))
        .row(Row::peer(
            "tower-acc Gradient2",
            bench.service(&gradient, true),
        ));
    vec![group]
}

const VEGAS: &str = "tower-acc Vegas";
