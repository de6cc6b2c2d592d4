//! Taking a seat and returning it.

use outlast_core::bulkhead::{Admission, Bulkhead, Config};
use tokio::sync::Semaphore;
use tower::ServiceBuilder;

use crate::clock::passed_in;
use crate::measure::Bench;
use crate::peers::{self, SEATS};
use crate::table::{Goal, Group, Row};

pub(crate) fn groups(bench: &Bench) -> Vec<Group> {
    let ours = Bulkhead::new(Config::new(SEATS)).expect("the settings are sound");
    let sit = || match ours.admit(passed_in()) {
        Ok(Admission::Seat(seat)) => ours.release(seat),
        _ => panic!("there are seats enough"),
    };
    let semaphore = Semaphore::new(SEATS as usize);
    let tower = ServiceBuilder::new().concurrency_limit(SEATS as usize);
    let tower = tower.service(peers::ready());
    let group = Group::new("bulkhead, a seat taken and returned")
        .row(Row::ours("time passed in", bench.shared(sit)).goals([
            Goal::Single(12.0),
            Goal::Contended(40.0),
            Goal::Allocations(0.0),
        ]))
        .row(Row::peer(
            "tokio Semaphore, `try_acquire`",
            bench.shared(|| drop(semaphore.try_acquire().expect("there are permits enough"))),
        ))
        .row(Row::peer(
            "tokio Semaphore, `acquire`",
            bench.future(|| semaphore.acquire()),
        ))
        .row(Row::peer(
            "tower ConcurrencyLimit",
            bench.service(&tower, true),
        ))
        .row(Row::peer(
            "tower-resilience",
            bench.service(&peers::resilience_bulkhead(), true),
        ));
    vec![group]
}
