//! Which sagas begin, and what goes on with them.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use super::bind::Binder;
use super::{Beginning, Client, Load, Runner};
use crate::plan::Saga;
use crate::sections::{BEGINNING, RUNNER};
use crate::view::View;
use crate::yaml::Entry;

impl<'a> Binder<'a> {
    /// In the order of the file.
    pub(super) fn sagas(&mut self, clients: &[Client]) -> Vec<Beginning> {
        let mut sagas = Vec::new();
        for entry in self.view.names("sagas") {
            if clients.iter().any(|client| client.name == entry.key) {
                let message = format!("a client is called `{}`, too", entry.key);
                let mend = "rename the client: promises name both";
                self.problem(entry.key_place, message, mend);
            }
            sagas.extend(self.beginning(entry));
        }
        sagas
    }

    fn beginning(&mut self, entry: &Entry) -> Option<Beginning> {
        let view = View::new(&entry.node, &BEGINNING);
        let saga = self.newest(entry)?.clone();
        let load = match (view.node_of("rate"), view.duration("every")) {
            (Some(_), None) => Load::Open(self.rate(view)?),
            (None, Some(interval)) => {
                if interval < Duration::from_micros(1) {
                    let mend = "write at least `1us`";
                    self.problem(view.value_place("every"), "nothing begins that often", mend);
                }
                Load::Steady(interval)
            }
            _ => {
                let mend = "give exactly one of `rate` and `every`";
                self.problem(entry.key_place, "how often it begins is not clear", mend);
                return None;
            }
        };
        Some(Beginning {
            saga,
            load,
            cancels: view.share("cancels").map_or(0.0, |share| share.as_f64()),
            cancels_after: self.law(view, "cancels_after"),
        })
    }

    /// The version that begins.
    fn newest(&mut self, entry: &Entry) -> Option<&'a Saga> {
        let plan = self.plan;
        let all = plan.sagas.iter().flat_map(|sagas| &sagas.definitions);
        let own = all.clone().filter(|saga| saga.name == entry.key);
        let newest = own.max_by_key(|saga| saga.version);
        if newest.is_none() {
            let names: Vec<_> = all.map(|saga| saga.name.as_str()).collect();
            self.unknown("saga", &entry.key, entry.key_place, &names);
        }
        newest
    }

    pub(super) fn runner(&mut self) -> Runner {
        let view = self.view.part("runner", &RUNNER);
        let crashes = view.share("crashes").map_or(0.0, |share| share.as_f64());
        if crashes > 0.5 {
            let mend = "write at most `50%`";
            let message = "who crashes that often gets nowhere";
            self.problem(view.value_place("crashes"), message, mend);
        }
        if self.view.node_of("runner").is_some() && self.view.names("sagas").is_empty() {
            let mend = "add `sagas: { NAME: { rate: 10/s } }`, or remove it";
            let message = "no sagas begin, so that nobody goes on with them";
            self.problem(self.view.place_of("runner"), message, mend);
        }
        // The defaults of a policy file without sagas, which has none to go on with.
        let count = |count: usize| NonZeroUsize::new(count).expect("it is not zero");
        let limits = self.plan.sagas.as_ref();
        Runner {
            crashes,
            crashes_every: view.count("crashes_every"),
            restart: view.duration("restart").unwrap_or_default(),
            hands: view.duration("hands"),
            zone: view.text("zone").map(str::to_owned),
            running: limits.map_or(count(10_000), |sagas| sagas.running),
            resumed_a_second: limits.map_or(count(20_000), |sagas| sagas.resumed_a_second),
            records: limits.map_or(NonZeroU64::new(1000).expect("it is not zero"), |sagas| {
                sagas.records
            }),
        }
    }
}
