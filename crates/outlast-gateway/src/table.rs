//! A plan in the form that requests are served by.
//!
//! A table never changes; a reload builds a new one and takes over, from the old, the state of
//! every upstream whose part of the file is the same, and of every listening socket that stays.
//! Everything that can fail (files of certificates, addresses in use, names that are none) fails
//! while the new table is built, so that a bad plan changes nothing.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderName, StatusCode};
use outlast::canary::Side;
use outlast_config::plan::{self, Affinity, Plan, Protocol, RateKey};
use rustls::ServerConfig;
use tokio::runtime::Handle;

use crate::answer::Body;
use crate::arrivals::Arrivals;
use crate::attempt::wall;
use crate::degrade::Degradation;
use crate::discover::{self, Discovery};
use crate::health::Vitals;
use crate::journal::{Bounds, Journal};
use crate::members::Members;
use crate::metrics::{Errors, RouteMetrics};
use crate::rollout::{Rollout, Trial};
use crate::stale::Stale;
use crate::{listen, routes, tls};

/// Everything that a request needs to know.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) gateway: plan::Gateway,
    pub(crate) routes: Vec<Route>,
    pub(crate) upstreams: Vec<Entry>,
    pub(crate) listeners: Vec<Listener>,
    /// What the gateway says of itself, if anybody can ask.
    pub(crate) vitals: Option<Arc<Vitals>>,
    /// Boxed: most tables have none.
    pub(crate) degrade: Option<Box<Degradation>>,
    /// Requests that no route took.
    unrouted: Arc<RouteMetrics>,
}

/// A route with what is counted of it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) rule: routes::Route,
    pub(crate) metrics: Arc<RouteMetrics>,
    pub(crate) canary: Option<Canary>,
}

/// A route's new version.
#[derive(Debug)]
pub(crate) struct Canary {
    pub(crate) rollout: Arc<Rollout>,
    /// The place of its upstream. It belongs to the table, as that of [`Entry::instead`].
    upstream: usize,
}

impl Route {
    /// The place of the upstream that a request goes to.
    pub(crate) fn upstream(&self, trial: Option<&Trial>) -> usize {
        let is_new = trial.is_some_and(|trial| trial.side() == Side::Canary);
        let canary = self.canary.as_ref().filter(|_| is_new);
        canary.map_or(self.rule.plan.upstream, |canary| canary.upstream)
    }

    pub(crate) fn name(&self) -> &str {
        &self.rule.plan.name
    }
}

/// An upstream in its place in the table.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) upstream: Arc<Upstream>,
    /// The place of the upstream that answers instead. It belongs to the table, because places
    /// change while the upstream stays.
    pub(crate) instead: Option<usize>,
    /// How much of a request its queues, and those of the upstreams that answer instead, may take; 0
    /// without any.
    pub(crate) queued_bytes: usize,
}

/// One dependency: its policies and their state, shared by all workers.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) plan: plan::Upstream,
    pub(crate) policies: outlast::Upstream,
    pub(crate) members: Members,
    pub(crate) discovery: Option<Discovery>,
    /// Whether an endpoint may be spoken to by HTTP/2.
    pub(crate) may_speak_http2: bool,
    /// Whether an endpoint gets other header fields than the client sent.
    pub(crate) changes_fields: bool,
    pub(crate) idempotency_key: HeaderName,
    /// Whether there is a rate limit, and what it counts by.
    pub(crate) limits_rate: bool,
    pub(crate) rate_key: Counts,
    /// What keeps a request at one endpoint.
    pub(crate) affinity: Counts,
    pub(crate) stale: Option<Arc<Stale>>,
    pub(crate) fixed: Option<Fixed>,
    /// What is known of keys that only one endpoint may serve.
    pub(crate) exclusive: Option<Exclusive>,
    pub(crate) errors: Errors,
    /// How many attempts it is asked for in a second.
    pub(crate) arrivals: Arrivals,
}

/// The endpoints are providers of which only one may do a piece of work.
#[derive(Debug)]
pub(crate) struct Exclusive {
    pub(crate) journal: Arc<Journal>,
    pub(crate) bounds: Bounds,
}

/// What tells requests apart, for a rate limit or for a hash.
#[derive(Debug)]
pub(crate) enum Counts {
    Together,
    ByClient,
    ByHeader(HeaderName),
}

/// A fixed answer.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: bytes::Bytes,
}

impl Fixed {
    /// An error names what of the plan is no HTTP.
    pub(crate) fn new(answer: &plan::Answer) -> Result<Fixed, String> {
        let field = |(name, value): &(String, String)| {
            let name = header_name(name)?;
            let value = http::HeaderValue::from_str(value)
                .map_err(|_| format!("{value:?} is no header value"))?;
            Ok::<_, String>((name, value))
        };
        Ok(Fixed {
            status: StatusCode::from_u16(answer.status)
                .map_err(|_| format!("{} is no status", answer.status))?,
            headers: answer.headers.iter().map(field).collect::<Result<_, _>>()?,
            body: bytes::Bytes::copy_from_slice(answer.body.as_bytes()),
        })
    }

    pub(crate) fn answer(&self) -> http::Response<Body> {
        let mut response = http::Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

/// One listening address.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// Its sockets, one per worker, until they are taken.
#[derive(Debug)]
pub(crate) struct Sockets {
    wanted: SocketAddr,
    pub(crate) bound: SocketAddr,
    waiting: Mutex<Vec<Option<TcpListener>>>,
}

impl Sockets {
    fn bind(address: SocketAddr, workers: usize) -> Result<Arc<Sockets>, String> {
        let (bound, sockets) = listen::bind(address, workers)
            .map_err(|error| format!("could not listen on {address}: {error}"))?;
        Ok(Arc::new(Sockets {
            wanted: address,
            bound,
            waiting: Mutex::new(sockets.into_iter().map(Some).collect()),
        }))
    }

    /// The socket of a worker, the first time it asks.
    pub(crate) fn take(&self, worker: usize) -> Option<TcpListener> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get_mut(worker)?.take()
    }
}

/// What became of the upstreams at a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) kept: usize,
    pub(crate) new: usize,
    pub(crate) gone: usize,
}

impl Table {
    /// Builds a table; an error says what is wrong and where.
    pub(crate) fn new(
        plan: Plan,
        before: Option<&Table>,
        workers: usize,
        executor: Option<&Handle>,
    ) -> Result<(Table, Changes), String> {
        let (upstreams, changes) = upstreams(&plan, before, workers)?;
        let known = before.and_then(|before| before.vitals.as_ref());
        let vitals =
            executor.map(|executor| Vitals::take_over(&plan.health, &upstreams, known, executor));
        let former = before.and_then(|before| before.degrade.as_deref());
        let degrade = Degradation::new(&plan, &upstreams, former)?.map(Box::new);
        let route = |route: plan::Route| {
            let former = before.and_then(|before| before.route_named(&route.name));
            let name = route.name.clone();
            let failed = |error: String| format!("route {name}: {error}");
            let canary = canary(&route, former, &upstreams).map_err(failed)?;
            let metrics = former.map_or_else(
                || Arc::new(RouteMetrics::new(workers)),
                |route| Arc::clone(&route.metrics),
            );
            Ok::<_, String>(Route {
                rule: routes::Route::new(route).map_err(failed)?,
                metrics,
                canary,
            })
        };
        let routes = plan
            .routes
            .into_iter()
            .map(route)
            .collect::<Result<_, _>>()?;
        let listeners = plan
            .gateway
            .listen
            .iter()
            .map(|listener| self::listener(listener, before, workers))
            .collect::<Result<_, _>>()?;
        let unrouted = before.map_or_else(
            || Arc::new(RouteMetrics::new(workers)),
            |before| Arc::clone(&before.unrouted),
        );
        let table = Table {
            gateway: plan.gateway,
            routes,
            upstreams,
            listeners,
            vitals: vitals.transpose()?,
            degrade,
            unrouted,
        };
        Ok((table, changes))
    }

    /// The place of the route that takes a request.
    pub(crate) fn route(
        &self,
        method: &http::Method,
        host: &str,
        path: &str,
        headers: &http::HeaderMap,
    ) -> Option<usize> {
        self.routes
            .iter()
            .position(|route| route.rule.matches(method, host, path, headers))
    }

    /// What is counted of a route, or of requests without one.
    pub(crate) fn metrics_of(&self, route: Option<usize>) -> &RouteMetrics {
        route.map_or(&self.unrouted, |at| &self.routes[at].metrics)
    }

    /// The upstream with this name.
    pub(crate) fn upstream_named(&self, name: &str) -> Option<&Arc<Upstream>> {
        let mut all = self.upstreams.iter().map(|entry| &entry.upstream);
        all.find(|upstream| upstream.plan.name == name)
    }

    /// The journal that an upstream goes on with: that of its file, or without one its own.
    fn journal_of(&self, plan: &plan::Upstream) -> Option<Arc<Journal>> {
        let path = plan.exclusive.as_ref()?.journal.as_deref();
        let mut all = self.upstreams.iter().map(|entry| &entry.upstream);
        let former = all.find_map(|upstream| {
            let journal = &upstream.exclusive.as_ref()?.journal;
            let is_same = path.is_some() || upstream.plan.name == plan.name;
            (is_same && journal.path() == path).then_some(journal)
        });
        former.cloned()
    }

    /// The route with this name.
    pub(crate) fn route_named(&self, name: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.name() == name)
    }
}

/// The canary of a route, with its state if its section is the same as before.
fn canary(
    route: &plan::Route,
    former: Option<&Route>,
    upstreams: &[Entry],
) -> Result<Option<Canary>, String> {
    let Some(plan) = &route.canary else {
        return Ok(None);
    };
    let former = former.and_then(|former| former.canary.as_ref());
    let kept = former.filter(|former| former.rollout.is(plan));
    let version = &upstreams[plan.upstream].upstream.plan.name;
    Ok(Some(Canary {
        rollout: match kept {
            Some(kept) => Arc::clone(&kept.rollout),
            None => Arc::new(Rollout::new(&route.name, version, plan)?),
        },
        upstream: plan.upstream,
    }))
}

fn upstreams(
    plan: &Plan,
    before: Option<&Table>,
    workers: usize,
) -> Result<(Vec<Entry>, Changes), String> {
    let mut changes = Changes::default();
    let mut entries = Vec::new();
    let mut new = Vec::new();
    for upstream in &plan.upstreams {
        let former = before.and_then(|before| before.upstream_named(&upstream.name));
        let kept = match former {
            Some(former) if former.plan.source == upstream.source => {
                changes.kept += 1;
                Arc::clone(former)
            }
            _ => {
                changes.new += 1;
                let journal = before.and_then(|before| before.journal_of(upstream));
                let built = Upstream::new(upstream.clone(), journal, workers)
                    .map_err(|error| format!("upstream {}: {error}", upstream.name))?;
                if let Some(former) = former {
                    built.go_on_from(former);
                }
                let built = Arc::new(built);
                new.push(Arc::clone(&built));
                built
            }
        };
        entries.push(Entry {
            upstream: kept,
            instead: upstream.fallback.upstream,
            queued_bytes: queued_bytes(plan, upstream),
        });
    }
    discover::look_first(&new);
    changes.gone = before.map_or(0, |before| before.upstreams.len()) - changes.kept;
    Ok((entries, changes))
}

fn queued_bytes(plan: &Plan, upstream: &plan::Upstream) -> usize {
    let mut next = Some(upstream);
    let mut most = 0;
    // A chain has no circles, and no more links than there are upstreams.
    for _ in 0..plan.upstreams.len() {
        let Some(upstream) = next else {
            break;
        };
        let names = upstream.hold.iter().chain(&upstream.fallback.queue);
        let is_its = |queue: &&plan::Queue| names.clone().any(|name| *name == queue.name);
        let bytes = plan.queues.iter().filter(is_its);
        most = bytes
            .map(|queue| queue.message_bytes)
            .fold(most, usize::max);
        next = upstream.fallback.upstream.map(|at| &plan.upstreams[at]);
    }
    most
}

impl Upstream {
    /// Whether its endpoints have breakers.
    pub(crate) fn has_breakers(&self) -> bool {
        let stats = self.policies.stats();
        stats
            .endpoints
            .iter()
            .any(|endpoint| endpoint.breaker.is_some())
    }

    fn new(
        plan: plan::Upstream,
        former: Option<Arc<Journal>>,
        workers: usize,
    ) -> Result<Upstream, String> {
        let policies =
            outlast::Upstream::new(plan.policies.clone()).map_err(|error| error.to_string())?;
        let members = Members::new(&plan, workers)?;
        let first = members.latest();
        let mut first = first.endpoints.iter();
        Ok(Upstream {
            // Those that come later have no dialect, or that of one of these.
            changes_fields: first.any(|(_, endpoint)| endpoint.dialect.changes_fields()),
            members,
            may_speak_http2: match plan.protocol {
                Protocol::Http1 => false,
                Protocol::Http2 => true,
                Protocol::Auto => {
                    let told_later = plan.discovery.is_some();
                    told_later || plan.endpoints.iter().any(|endpoint| endpoint.tls)
                }
            },
            discovery: plan.discovery.clone().map(Discovery::new),
            idempotency_key: header_name(&plan.idempotency_key)?,
            limits_rate: policies.rate_room(()).is_some(),
            rate_key: match &plan.rate_key {
                RateKey::Shared => Counts::Together,
                RateKey::Client => Counts::ByClient,
                RateKey::Header(name) => Counts::ByHeader(header_name(name)?),
            },
            affinity: match &plan.affinity {
                Affinity::None => Counts::Together,
                Affinity::Client => Counts::ByClient,
                Affinity::Header(name) => Counts::ByHeader(header_name(name)?),
            },
            stale: plan.fallback.stale.clone().map(Stale::new).map(Arc::new),
            fixed: plan.fallback.fixed.as_ref().map(Fixed::new).transpose()?,
            exclusive: plan
                .exclusive
                .as_ref()
                .map(|plan| exclusive(plan, former))
                .transpose()?,
            errors: Errors::default(),
            arrivals: Arrivals::new(wall()),
            policies,
            plan,
        })
    }
}

fn exclusive(plan: &plan::Exclusive, former: Option<Arc<Journal>>) -> Result<Exclusive, String> {
    Ok(Exclusive {
        journal: match former {
            Some(former) => former,
            None => Arc::new(Journal::open(plan)?),
        },
        bounds: Bounds::of(plan),
    })
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))
}

fn listener(
    listener: &plan::Listener,
    before: Option<&Table>,
    workers: usize,
) -> Result<Listener, String> {
    let former = before.and_then(|before| {
        let mut all = before.listeners.iter();
        all.find(|former| former.sockets.wanted == listener.address)
    });
    Ok(Listener {
        tls: listener.tls.as_ref().map(tls::server).transpose()?,
        sockets: match former {
            Some(former) => Arc::clone(&former.sockets),
            None => Sockets::bind(listener.address, workers)?,
        },
    })
}
