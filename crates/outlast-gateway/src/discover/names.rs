//! Endpoints from the names of a name server.
//!
//! Each endpoint of the plan stands for all addresses that its host's name has, or for all that
//! its SRV records name; what the plan says of it holds for each of them. Hosts are looked up side
//! by side, and each has its own last good answer, so one that cannot be found holds no other up, and
//! a question that was lost is no answer.
//! Answers are not kept for their time to live: what changes is seen after `every`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use outlast_config::plan::{Endpoint, Names};
use tokio::task::JoinSet;

use super::resolve::{Found, Resolvers, at, look};
use super::{pause, spread};
use crate::table::Upstream;

/// The names of one upstream, with what was found of each.
#[derive(Debug)]
pub(super) struct Lookup {
    names: Names,
    /// The endpoints of the plan, with the last good answer for each: at first itself, which is
    /// looked up for each connection.
    known: Vec<(Endpoint, Vec<Endpoint>)>,
}

/// Follows the names for as long as it is polled.
pub(super) async fn follow(upstream: Arc<Upstream>, names: Names) {
    let every = names.every;
    let mut lookup = Lookup::new(names, &upstream.plan.endpoints);
    if let Some(known) = upstream
        .discovery
        .as_ref()
        .and_then(|one| one.latest().endpoints)
    {
        lookup.go_on_from(&known);
    }
    loop {
        pause(spread(every)).await;
        let errors = lookup.round().await;
        let (owner, endpoints) = (Arc::clone(&upstream), lookup.endpoints());
        // Not on the worker's thread: there may be many.
        let report = move || report(&owner, &endpoints, errors);
        // One that panicked has said so; the next round comes.
        let _ = tokio::task::spawn_blocking(report).await;
    }
}

/// Looks once, and waits for no longer than `limit`.
pub(super) async fn look_once(lookups: Vec<(Arc<Upstream>, Lookup)>, limit: Duration) {
    let mut tasks = JoinSet::new();
    for (upstream, mut lookup) in lookups {
        tasks.spawn(async move {
            let errors = match tokio::time::timeout(limit, lookup.round()).await {
                Ok(errors) => errors,
                Err(_) => vec![format!("no answer within {limit:?}")],
            };
            report(&upstream, &lookup.endpoints(), errors);
        });
    }
    tasks.join_all().await;
}

/// What was found is used, also beside what was not.
fn report(upstream: &Upstream, endpoints: &[Endpoint], mut errors: Vec<String>) {
    errors.extend(upstream.take(endpoints).err());
    upstream.looked((!errors.is_empty()).then(|| errors.join("; ")));
}

impl Lookup {
    pub(super) fn new(names: Names, declared: &[Endpoint]) -> Lookup {
        let known = declared.iter();
        let known = known.map(|one| (one.clone(), vec![one.clone()]));
        Lookup {
            names,
            known: known.collect(),
        }
    }

    /// What was found before counts as the last good answers.
    fn go_on_from(&mut self, before: &[Endpoint]) {
        for (declared, known) in &mut self.known {
            let is_of_it = |one: &&Endpoint| {
                let rest = one.name.strip_prefix(&declared.name);
                let socket = rest.and_then(|rest| rest.strip_prefix('/'));
                socket.is_some_and(|socket| socket.parse::<SocketAddr>().is_ok())
            };
            let of_it = before.iter().filter(is_of_it);
            let of_it: Vec<_> = of_it.cloned().collect();
            if !of_it.is_empty() {
                *known = of_it;
            }
        }
    }

    /// The last good answers, all together.
    fn endpoints(&self) -> Vec<Endpoint> {
        let all = self.known.iter().flat_map(|(_, known)| known);
        all.cloned().collect()
    }

    /// The last good addresses of each host.
    fn addresses(&self) -> HashMap<String, Vec<IpAddr>> {
        let mut addresses: HashMap<_, Vec<_>> = HashMap::new();
        for one in self.known.iter().flat_map(|(_, known)| known) {
            let of_host = addresses.entry(one.host.clone()).or_default();
            of_host.extend(one.address);
        }
        addresses
    }

    /// Looks all names up; which of them could not be found, and why.
    async fn round(&mut self) -> Vec<String> {
        let names = self.names.clone();
        // The system's files are read for it.
        let resolvers = tokio::task::spawn_blocking(move || Resolvers::new(&names)).await;
        let resolvers = match resolvers {
            Ok(Ok(resolvers)) => resolvers,
            Ok(Err(error)) => return vec![error],
            Err(error) => return vec![error.to_string()],
        };
        let before = self.addresses();
        let mut tasks = JoinSet::new();
        for (at, (declared, _)) in self.known.iter().enumerate() {
            let (resolvers, declared) = (resolvers.clone(), declared.clone());
            let (record, before) = (self.names.record, before.clone());
            tasks.spawn(async move { (at, look(&resolvers, &declared, record, &before).await) });
        }
        let mut errors = BTreeSet::new();
        for (number, Found { hosts, failed }) in tasks.join_all().await {
            let (declared, known) = &mut self.known[number];
            let is_known = failed.is_empty();
            errors.extend(failed);
            let mut found: Vec<Endpoint> = Vec::new();
            for (host, at_host) in hosts {
                found.extend(at_host.iter().map(|&address| at(&host, address)));
            }
            let mut there = HashSet::new();
            found.retain(|one| there.insert(one.name.clone()));
            if !found.is_empty() {
                *known = found;
            } else if is_known {
                errors.insert(format!("{} has no address", declared.host));
            }
        }
        errors.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use outlast_config::plan::Record;

    use super::super::resolve::tests::declared;
    use super::*;

    #[test]
    fn what_was_found_before_is_the_last_good_answer_of_its_name() {
        let declared = declared();
        let names = Names {
            record: Record::Service,
            every: Duration::from_secs(5),
            server: None,
        };
        let mut lookup = Lookup::new(names, std::slice::from_ref(&declared));
        assert_eq!(lookup.endpoints(), std::slice::from_ref(&declared));
        let before = [at(&declared, [10, 0, 0, 1].into())];
        assert_eq!(before[0].name, "main/10.0.0.1:80");
        lookup.go_on_from(&before);
        assert_eq!(lookup.endpoints(), before);
    }
}
