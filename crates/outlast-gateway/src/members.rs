//! The endpoints of an upstream by their numbers, as they come and go.
//!
//! The library decides among endpoints and gives each a number that no other one ever gets; here
//! stands what belongs to a number: an address and how to speak to it. Both change in one step,
//! under a lock that a worker takes only after a change, so nobody is sent to an endpoint that cannot
//! be found. One that has left is known for a while longer: an
//! attempt may have been given its number just before.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::uri::Scheme;
use outlast::time::Time;
use outlast::{Clock, EndpointStats};
use outlast_config::plan;
use rustls::ClientConfig;

use crate::connect::Dial;
use crate::dialect::Dialect;
use crate::metrics::EndpointMetrics;
use crate::tls;

/// One address.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) name: Arc<str>,
    pub(crate) dial: Dial,
    pub(crate) plan: plan::Endpoint,
    pub(crate) dialect: Dialect,
    pub(crate) metrics: EndpointMetrics,
}

impl Endpoint {
    /// Where it is: its URL, with the address that its host was found to have.
    pub(crate) fn url(&self) -> String {
        format!("{}{}", self.place(), self.plan.prefix)
    }

    /// Its host and port.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.plan.host, self.plan.port)
    }

    /// Its URL without a path, by its name.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }

    /// Its URL without a path, by its address if that is known.
    pub(crate) fn place(&self) -> String {
        match self.plan.address {
            Some(address) => {
                let socket = SocketAddr::new(address, self.plan.port);
                format!("{}://{socket}", self.scheme())
            }
            None => self.origin(),
        }
    }

    /// What it is spoken to by.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.plan.tls {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }
}

/// The endpoints of one upstream, and what makes new ones.
#[derive(Debug)]
pub(crate) struct Members {
    maker: Maker,
    /// One change at a time; what takes long is done before anybody has to wait for it.
    changing: Mutex<()>,
    directory: Mutex<Arc<Directory>>,
}

/// The endpoints at one time.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// In the order in which they were told, with their numbers.
    pub(crate) endpoints: Vec<(usize, Arc<Endpoint>)>,
    left: Vec<Left>,
}

/// One that is none any more.
#[derive(Clone, Debug)]
struct Left {
    number: usize,
    endpoint: Arc<Endpoint>,
    at: Time,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The membership that it led to.
    pub(crate) version: u64,
    /// How many there are now.
    pub(crate) endpoints: usize,
    pub(crate) joined: usize,
    pub(crate) left: usize,
}

impl Directory {
    /// The endpoint with this number, also if it left a moment ago.
    pub(crate) fn find(&self, number: usize, now: Time) -> Option<&Arc<Endpoint>> {
        let is_it = |&&(one, _): &&(usize, _)| one == number;
        // Those that never change stand at the place of their number.
        let at_home = self.endpoints.get(number).filter(is_it);
        if let Some((_, endpoint)) = at_home.or_else(|| self.endpoints.iter().find(is_it)) {
            return Some(endpoint);
        }
        let mut left = self.left.iter();
        let left = left.find(|left| left.number == number && left.is_known(now));
        left.map(|left| &left.endpoint)
    }

    /// Each of these with its statistics, which were taken before.
    pub(crate) fn with_stats(
        &self,
        stats: Vec<EndpointStats>,
    ) -> Vec<(Arc<Endpoint>, EndpointStats)> {
        let now = Clock::Precise.now();
        let known = |stats: EndpointStats| {
            let endpoint = self.find(stats.number, now)?;
            Some((Arc::clone(endpoint), stats))
        };
        stats.into_iter().filter_map(known).collect()
    }

    /// The endpoint of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Endpoint>> {
        let mut all = self.endpoints.iter();
        let found = all.find(|(_, endpoint)| &*endpoint.name == name);
        found.map(|(_, endpoint)| endpoint)
    }
}

impl Directory {
    /// The directory after this one, and what differs.
    fn followed_by(
        &self,
        endpoints: Vec<(usize, Arc<Endpoint>)>,
        now: Time,
    ) -> (Directory, Changed) {
        let stay: HashSet<_> = endpoints.iter().map(|&(number, _)| number).collect();
        let gone = self
            .endpoints
            .iter()
            .filter(|(number, _)| !stay.contains(number));
        let gone: Vec<_> = gone
            .map(|(number, endpoint)| Left {
                number: *number,
                endpoint: Arc::clone(endpoint),
                at: now,
            })
            .collect();
        let changed = Changed {
            version: 0,
            endpoints: endpoints.len(),
            joined: endpoints.len() - (self.endpoints.len() - gone.len()),
            left: gone.len(),
        };
        let earlier = self.left.iter().filter(|left| left.is_known(now));
        let mut left: Vec<_> = earlier.cloned().chain(gone).collect();
        left.drain(..left.len().saturating_sub(MOST_LEFT));
        (Directory { endpoints, left }, changed)
    }
}

impl Left {
    fn is_known(&self, now: Time) -> bool {
        now.since(self.at) < KNOWN_AFTER
    }
}

impl Members {
    /// Those that an upstream begins with; an error names what of them cannot work.
    pub(crate) fn new(plan: &plan::Upstream, workers: usize) -> Result<Members, String> {
        let maker = Maker {
            client: plan.tls.clone(),
            protocol: plan.protocol,
            connect_timeout: plan.connect_timeout,
            workers,
            checks_by_grpc: matches!(plan.check, Some(plan::ActiveCheck::Grpc(_))),
            tls: OnceLock::new(),
        };
        maker.prepare(&plan.endpoints)?;
        let endpoints = plan.endpoints.iter().map(|endpoint| maker.make(endpoint));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        Ok(Members {
            maker,
            changing: Mutex::new(()),
            directory: Mutex::new(Arc::new(Directory {
                endpoints: (0..).zip(endpoints).collect(),
                left: Vec::new(),
            })),
        })
    }

    /// The endpoints as they are now; waits for a change that is being made.
    pub(crate) fn latest(&self) -> Arc<Directory> {
        Arc::clone(&self.lock())
    }

    /// Replaces them. Those whose name, URL and address stay, stay; `None` if all do.
    ///
    /// An error says what cannot work; then nothing has changed.
    pub(crate) fn change(
        &self,
        policies: &outlast::Upstream,
        told: &[plan::Endpoint],
    ) -> Result<Option<Changed>, String> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.maker.prepare(told)?;
        let before = self.latest();
        let endpoints = before.endpoints.iter().map(|(_, one)| one);
        let known: HashMap<_, _> = endpoints.map(|one| (key(&one.plan), one)).collect();
        let endpoint = |told: &plan::Endpoint| match known.get(&key(told)) {
            Some(&endpoint) => Ok(Arc::clone(endpoint)),
            None => self.maker.make(told),
        };
        let endpoints = told.iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
        let described = told.iter().map(plan::Endpoint::described).collect();
        let version = policies.version();
        // Whoever looks from here on waits until numbers and addresses belong together.
        let mut directory = self.lock();
        let members = policies
            .set_endpoints(described)
            .map_err(|error| error.to_string())?;
        if members.version() == version {
            return Ok(None);
        }
        let numbered = |endpoint: Arc<Endpoint>| {
            let number = members.number(&endpoint.name);
            (number.expect("it is a member"), endpoint)
        };
        let endpoints = endpoints.into_iter().map(numbered).collect();
        let (next, changed) = before.followed_by(endpoints, Clock::Precise.now());
        *directory = Arc::new(next);
        Ok(Some(Changed {
            version: members.version(),
            ..changed
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Directory>> {
        self.directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// By what an endpoint is the same in the next directory.
fn key(endpoint: &plan::Endpoint) -> (String, String, Option<IpAddr>) {
    (endpoint.name.clone(), endpoint.url(), endpoint.address)
}

/// What endpoints of an upstream have in common.
#[derive(Debug)]
struct Maker {
    client: plan::ClientTls,
    protocol: plan::Protocol,
    connect_timeout: Duration,
    workers: usize,
    /// Such checks are made in clear text only.
    checks_by_grpc: bool,
    /// Read when the first endpoint needs it.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Maker {
    /// Reads what these endpoints need to be made.
    fn prepare(&self, endpoints: &[plan::Endpoint]) -> Result<(), String> {
        if let Some(one) = endpoints.iter().find(|one| one.tls && self.checks_by_grpc) {
            return Err(format!(
                "{}: gRPC checks are made in clear text only; use `check: {{ http: .. }}` or `http://`",
                one.url()
            ));
        }
        if self.tls.get().is_none() && endpoints.iter().any(|endpoint| endpoint.tls) {
            let config = tls::client(&self.client, self.protocol)?;
            self.tls.get_or_init(|| config);
        }
        Ok(())
    }

    fn make(&self, plan: &plan::Endpoint) -> Result<Arc<Endpoint>, String> {
        let server_name = self.client.server_name.as_deref();
        Ok(Arc::new(Endpoint {
            name: Arc::from(plan.name.as_str()),
            dial: Dial::new(plan, self.tls.get(), server_name, self.connect_timeout)?,
            dialect: Dialect::new(&plan.dialect)
                .map_err(|error| format!("endpoint {}: {error}", plan.name))?,
            plan: plan.clone(),
            metrics: EndpointMetrics::new(self.workers),
        }))
    }
}

/// Far longer than it takes from an attempt's choice to its connection.
const KNOWN_AFTER: Duration = Duration::from_secs(10);
/// Of more that have left within that time the oldest are forgotten.
const MOST_LEFT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> plan::Upstream {
        let file = format!("upstreams: {{ up: {text} }}");
        let loaded = outlast_config::parse("x.yaml", &file).unwrap();
        loaded.into_plan().upstreams.remove(0)
    }

    fn numbers(members: &Members) -> Vec<(usize, String)> {
        let directory = members.latest();
        let all = directory.endpoints.iter();
        all.map(|(number, one)| (*number, one.url())).collect()
    }

    #[test]
    fn who_stays_keeps_number_and_connections_and_who_moved_does_not() {
        let plan = plan("{ endpoints: { a: http://a:1, b: http://b:1 }, discover: admin }");
        let policies = outlast::Upstream::new(plan.policies.clone()).unwrap();
        let members = Members::new(&plan, 1).unwrap();
        let told = |text: &str| outlast_config::endpoints("x.json", text).unwrap();
        let before = Arc::clone(members.latest().named("b").unwrap());
        let same = told(r#"{"b": "http://b:1", "a": "http://a:1"}"#);
        assert_eq!(members.change(&policies, &same), Ok(None));
        let next = told(r#"{"c": "http://c:1", "b": "http://b:1", "a": "http://a:2"}"#);
        let changed = Changed {
            version: 1,
            endpoints: 3,
            joined: 2,
            left: 1,
        };
        assert_eq!(members.change(&policies, &next), Ok(Some(changed)));
        let pair = |number, url: &str| (number, url.to_owned());
        assert_eq!(
            numbers(&members),
            [
                pair(2, "http://c:1"),
                pair(1, "http://b:1"),
                pair(3, "http://a:2")
            ]
        );
        assert!(Arc::ptr_eq(&before, members.latest().named("b").unwrap()));
        let now = Clock::Precise.now();
        let gone = members.latest().find(0, now).map(|one| one.url());
        assert_eq!(gone.as_deref(), Some("http://a:1"), "known for a while");
        assert!(members.latest().find(0, now + KNOWN_AFTER).is_none());
        let heavier = told(
            r#"{"c": {"url": "http://c:1", "weight": 9}, "b": "http://b:1", "a": "http://a:2"}"#,
        );
        let changed = members.change(&policies, &heavier).unwrap().unwrap();
        assert_eq!((changed.joined, changed.left), (0, 0));
    }

    #[test]
    fn however_many_leave_few_are_known() {
        let plan = plan("{ endpoints: http://a:1, discover: admin }");
        let policies = outlast::Upstream::new(plan.policies.clone()).unwrap();
        let members = Members::new(&plan, 1).unwrap();
        for round in 0..MOST_LEFT + 10 {
            let told = format!(r#"{{"main": "http://a{round}:1"}}"#);
            let told = outlast_config::endpoints("x.json", &told).unwrap();
            members.change(&policies, &told).unwrap().unwrap();
        }
        assert_eq!(members.latest().left.len(), MOST_LEFT);
        assert_eq!(members.latest().endpoints.len(), 1);
    }
}
