//! Asking name servers what an endpoint of the plan stands for.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
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
use rustls::pki_types::ServerName;
use tokio::task::JoinSet;

/// What came of looking one endpoint of the plan up.
pub(super) struct Found {
    /// The hosts that it stands for, with their addresses.
    pub(super) hosts: Vec<(Endpoint, Vec<IpAddr>)>,
    /// What could not be found, and why.
    pub(super) failed: Vec<String>,
}

/// One for each kind of address. A host that has both kinds is one machine, so the second kind counts
/// only where there is none of the first; and that is known only if the first question was answered.
#[derive(Clone, Debug)]
pub(super) struct Resolvers {
    first: TokioResolver,
    second: TokioResolver,
}

impl Resolvers {
    /// Made for each round: what the system says about name servers may have changed.
    pub(super) fn new(names: &Names) -> Result<Resolvers, String> {
        Ok(Resolvers {
            first: resolver(names, LookupIpStrategy::Ipv4Only)?,
            second: resolver(names, LookupIpStrategy::Ipv6Only)?,
        })
    }

    /// The addresses of a host; none if it is known to have none.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        for resolver in [&self.first, &self.second] {
            let looked = tokio::time::timeout(LONGEST_LOOK, resolver.lookup_ip(host)).await;
            let looked = looked.map_err(|_| format!("no answer within {LONGEST_LOOK:?}"))?;
            if let Some(found) = answered(looked)? {
                return Ok(found.iter().collect());
            }
        }
        Ok(Vec::new())
    }
}

fn resolver(names: &Names, strategy: LookupIpStrategy) -> Result<TokioResolver, String> {
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
    options.ip_strategy = strategy;
    options.timeout = PATIENCE;
    // Names are looked up again in any case.
    options.attempts = 1;
    builder.build().map_err(|error| error.to_string())
}

/// What an endpoint of the plan stands for now. A host that cannot be looked up keeps the addresses
/// it had `before`.
pub(super) async fn look(
    resolvers: &Resolvers,
    declared: &Endpoint,
    record: Record,
    before: &HashMap<String, Vec<IpAddr>>,
) -> Found {
    let (hosts, mut failed) = match record {
        Record::Address => (vec![declared.clone()], Vec::new()),
        Record::Service => match services(resolvers, declared).await {
            Ok(services) => services,
            Err(error) => {
                return Found {
                    hosts: Vec::new(),
                    failed: vec![format!("{}: {error}", declared.host)],
                };
            }
        },
    };
    let mut tasks = JoinSet::new();
    for (at, host) in hosts.into_iter().enumerate() {
        let resolvers = resolvers.clone();
        tasks.spawn(async move {
            let found = resolvers.addresses(&host.host).await;
            (at, host, found)
        });
    }
    let mut looked = tasks.join_all().await;
    looked.sort_by_key(|one| one.0);
    let mut hosts = Vec::new();
    for (_, host, found) in looked {
        let addresses = found.unwrap_or_else(|error| {
            failed.push(format!("{}: {error}", host.host));
            before.get(&host.host).cloned().unwrap_or_default()
        });
        hosts.push((host, addresses));
    }
    Found { hosts, failed }
}

/// The hosts of a service, and those that cannot be used, with the reason.
async fn services(
    resolvers: &Resolvers,
    declared: &Endpoint,
) -> Result<(Vec<Endpoint>, Vec<String>), String> {
    let lookup = resolvers.first.lookup(&*declared.host, RecordType::SRV);
    let lookup = tokio::time::timeout(LONGEST_LOOK, lookup).await;
    let lookup = lookup.map_err(|_| format!("no answer within {LONGEST_LOOK:?}"))?;
    let Some(lookup) = answered(lookup)? else {
        return Ok((Vec::new(), Vec::new()));
    };
    let services = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(service) => Some(service),
            _ => None,
        });
    let (usable, unusable): (Vec<_>, Vec<_>) = described(services.collect(), declared)
        .into_iter()
        .partition(is_usable);
    let unusable = unusable.iter();
    let unusable = unusable.map(|one| format!("{}:{} cannot be connected to", one.host, one.port));
    Ok((usable, unusable.collect()))
}

/// Whether there may be something at a host and port that somebody else wrote.
fn is_usable(service: &Endpoint) -> bool {
    let host = ServerName::try_from(service.host.as_str());
    service.port > 0 && (host.is_ok() || !service.tls)
}

/// One address of an endpoint of the plan.
pub(super) fn at(endpoint: &Endpoint, address: IpAddr) -> Endpoint {
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

/// For one question to one server.
const PATIENCE: Duration = Duration::from_secs(1);
/// For all questions about one host.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// What the policies take.
const MOST_WEIGHT: u32 = 1000;

#[cfg(test)]
pub(super) mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    pub(in super::super) fn declared() -> Endpoint {
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
}
