//! Endpoints from the names of a name server.
//!
//! Each endpoint of the plan stands for all addresses that its host's name has, or for all that
//! its SRV records name; what the plan says of it holds for each of them. Names are looked up side
//! by side, and each has its own last good answer, so one that cannot be found holds no other up.
//! Answers are not kept for their time to live: what changes is seen after `every`.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use outlast_config::plan::{Endpoint, Names, Record};
use tokio::task::JoinSet;

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
            let start = format!("{}/", declared.name);
            let of_it = before.iter().filter(|one| one.name.starts_with(&start));
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

    /// Looks all names up; which of them could not be found, and why.
    async fn round(&mut self) -> Vec<String> {
        let resolver = match resolver(&self.names) {
            Ok(resolver) => resolver,
            Err(error) => return vec![error],
        };
        let mut tasks = JoinSet::new();
        for (at, (declared, _)) in self.known.iter().enumerate() {
            let (resolver, declared, record) =
                (resolver.clone(), declared.clone(), self.names.record);
            tasks.spawn(async move {
                let found = look(&resolver, &declared, record);
                let found = tokio::time::timeout(LONGEST_LOOK, found).await;
                let late = |_| Err(format!("no answer within {LONGEST_LOOK:?}"));
                (at, found.unwrap_or_else(late))
            });
        }
        let mut errors = BTreeSet::new();
        for (at, found) in tasks.join_all().await {
            let (declared, known) = &mut self.known[at];
            match found {
                Ok(found) if !found.is_empty() => *known = found,
                Ok(_) => drop(errors.insert(format!("{} has no address", declared.host))),
                Err(error) => drop(errors.insert(format!("{}: {error}", declared.host))),
            }
        }
        errors.into_iter().collect()
    }
}

/// Made for each round: what the system says about name servers may have changed.
fn resolver(names: &Names) -> Result<TokioResolver, String> {
    let mut builder = match names.server {
        None => TokioResolver::builder_tokio()
            .map_err(|error| format!("the system's name servers: {error}"))?,
        Some(server) => {
            let at_port = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = connections.map(at_port).into();
            let server = NameServerConfig::new(server.ip(), true, connections);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            let provider = TokioRuntimeProvider::default();
            TokioResolver::builder_with_config(config, provider)
        }
    };
    let options = builder.options_mut();
    if names.server.is_some() {
        options.use_hosts_file = ResolveHosts::Never;
    }
    options.cache_size = 0;
    // A host that has addresses of both kinds is one machine.
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.timeout = PATIENCE;
    // Names are looked up again in any case.
    options.attempts = 1;
    builder.build().map_err(|error| error.to_string())
}

/// What an endpoint of the plan stands for now.
async fn look(
    resolver: &TokioResolver,
    declared: &Endpoint,
    record: Record,
) -> Result<Vec<Endpoint>, String> {
    let mut found = Vec::new();
    match record {
        Record::Address => {
            for address in addresses(resolver, &declared.host).await? {
                found.push(at(declared, address));
            }
        }
        Record::Service => {
            let lookup = resolver.lookup(&*declared.host, RecordType::SRV).await;
            let Some(lookup) = answered(lookup)? else {
                return Ok(found);
            };
            let services = lookup
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::SRV(service) => Some(service),
                    _ => None,
                });
            for service in described(services.collect(), declared) {
                for address in addresses(resolver, &service.host).await? {
                    found.push(at(&service, address));
                }
            }
        }
    }
    let mut names = HashSet::new();
    found.retain(|one| names.insert(one.name.clone()));
    Ok(found)
}

async fn addresses(resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, String> {
    let found = answered(resolver.lookup_ip(host).await)?;
    Ok(found.map_or(Vec::new(), |found| found.iter().collect()))
}

/// `None` if the answer is that there is nothing.
fn answered<T>(looked: Result<T, NetError>) -> Result<Option<T>, String> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if says_nothing(&error) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// A server that cannot answer also has no records to tell.
fn says_nothing(error: &NetError) -> bool {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(nothing)) => matches!(
            nothing.response_code,
            ResponseCode::NXDomain | ResponseCode::NoError
        ),
        _ => false,
    }
}

/// One address of an endpoint of the plan.
fn at(endpoint: &Endpoint, address: IpAddr) -> Endpoint {
    let socket = SocketAddr::new(address, endpoint.port);
    Endpoint {
        name: format!("{}/{socket}", endpoint.name),
        address: Some(address),
        ..endpoint.clone()
    }
}

/// SRV records as endpoints (RFC 2782): smaller priorities first, weights in proportion. A target of
/// `.` says that there is no such service.
fn described(mut services: Vec<&SRV>, declared: &Endpoint) -> Vec<Endpoint> {
    services.retain(|service| !service.target.is_root());
    let priorities: BTreeSet<_> = services.iter().map(|service| service.priority).collect();
    let rank = |priority: u16| priorities.iter().take_while(|one| **one < priority).count();
    let heaviest = services.iter().map(|service| service.weight).max();
    let heaviest = u32::from(heaviest.unwrap_or_default()).max(MOST_WEIGHT);
    let endpoint = |service: &&SRV| Endpoint {
        host: service.target.to_ascii().trim_end_matches('.').to_owned(),
        port: service.port,
        priority: u8::try_from(usize::from(declared.priority) + rank(service.priority))
            .unwrap_or(u8::MAX),
        weight: (u32::from(service.weight) * MOST_WEIGHT / heaviest).max(1),
        ..declared.clone()
    };
    services.iter().map(endpoint).collect()
}

/// For one question to one server.
const PATIENCE: Duration = Duration::from_secs(1);
/// For all questions about one name.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// What the policies take.
const MOST_WEIGHT: u32 = 1000;

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn declared() -> Endpoint {
        let file = "upstreams: { up: { endpoints: 'http://_http._tcp.up', discover: srv } }";
        let loaded = outlast_config::parse("x.yaml", file).unwrap();
        loaded.into_plan().upstreams[0].endpoints[0].clone()
    }

    #[test]
    fn records_of_a_service_become_ranks_and_weights() {
        let record = |priority, weight, port, target| {
            SRV::new(priority, weight, port, Name::from_ascii(target).unwrap())
        };
        let records = [
            record(20, 0, 1, "spare.up."),
            record(10, 60_000, 2, "large.up."),
            record(10, 30_000, 3, "small.up."),
            record(10, 1, 4, "."),
        ];
        let found = described(records.iter().collect(), &declared());
        let told = |one: &Endpoint| (one.host.clone(), one.port, one.priority, one.weight);
        let found: Vec<_> = found.iter().map(told).collect();
        assert_eq!(
            found,
            [
                ("spare.up".to_owned(), 1, 1, 1),
                ("large.up".to_owned(), 2, 0, 1000),
                ("small.up".to_owned(), 3, 0, 500),
            ]
        );
        let light = record(0, 5, 1, "light.up.");
        assert_eq!(described(vec![&light], &declared())[0].weight, 5);
    }

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
