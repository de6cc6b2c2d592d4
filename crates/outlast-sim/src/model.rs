//! What a run is made of, and what comes of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use outlast_core::config::ConfigError;
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Stats, Upstream};

use crate::client::{Client, ClientReport};
use crate::draws::{Draws, Purpose};
use crate::plain::Plain;
use crate::saga::{Runner, SagaReport, Sagas, SagasReport};
use crate::service::{Change, Service, ServiceReport};
use crate::world::World;

/// A world before it runs.
#[derive(Debug)]
pub struct Model {
    pub(crate) seed: u64,
    pub(crate) services: Vec<Service>,
    pub(crate) upstreams: Vec<Through>,
    pub(crate) clients: Vec<Client>,
    pub(crate) sagas: Vec<Sagas>,
    pub(crate) runner: Runner,
    /// When the runner crashes, and for how long it is away.
    pub(crate) crashes: Vec<(Time, Duration)>,
    /// When sagas are paused, or go on: which of them.
    pub(crate) pauses: Vec<(Time, usize, bool)>,
    pub(crate) changes: Vec<(Time, Happens)>,
    pub(crate) warm_up: Duration,
    pub(crate) sample: Option<Duration>,
    pub(crate) most_events: u64,
    pub(crate) most_present: usize,
}

/// What happens to which replica of which service; to all of them, if none is named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Happens {
    pub(crate) service: usize,
    pub(crate) replica: Option<u32>,
    pub(crate) change: Change,
}

/// The policies of an upstream, and where its endpoints are: service and replica, by number.
#[derive(Clone, Debug)]
pub(crate) struct Through {
    pub(crate) policies: Policies,
    pub(crate) places: Vec<Place>,
    /// What the policies were made from.
    config: Option<Config>,
}

impl Through {
    /// Forgets what the policies know.
    pub(crate) fn renew(&mut self, seed: u64) {
        if let Some(config) = &self.config {
            let renewed = Upstream::new(config.clone(), seed);
            self.policies = Policies::Outlast(Arc::new(renewed.expect("it worked before")));
        }
    }
}

/// Where an endpoint of an upstream leads.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub(crate) service: ServiceId,
    /// Any in turn, if it is none of them.
    pub(crate) replica: Option<u32>,
    pub(crate) distance: Duration,
    pub(crate) kind: u32,
}

impl Place {
    /// To one replica of a service, counted from 0.
    pub fn replica(service: ServiceId, replica: u32) -> Place {
        Place {
            service,
            replica: Some(replica),
            distance: Duration::ZERO,
            kind: 0,
        }
    }

    /// To whichever replica of a service has its turn, as by a load balancer that knows nothing.
    pub fn any(service: ServiceId) -> Place {
        Place {
            service,
            replica: None,
            distance: Duration::ZERO,
            kind: 0,
        }
    }

    /// How long a request is under way, and its answer. Default: no time. That a caller has gone is
    /// known at once all the same.
    pub fn distance(mut self, distance: Duration) -> Place {
        self.distance = distance;
        self
    }

    /// Of what kind requests are that come through here; those of a kind that the service does not
    /// know make no calls. Default 0.
    pub fn kind(mut self, kind: u32) -> Place {
        self.kind = kind;
        self
    }
}

/// Whose policies they are.
#[derive(Clone, Debug)]
pub(crate) enum Policies {
    Outlast(Arc<Upstream>),
    Plain(Plain),
}

/// A service of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceId(pub(crate) usize);

/// An upstream of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamId(pub(crate) usize);

/// A client of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId(pub(crate) usize);

/// Sagas of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SagasId(pub(crate) usize);

impl Model {
    /// An empty world. Equal seeds and models give equal runs.
    pub fn new(seed: u64) -> Model {
        Model {
            seed,
            services: Vec::new(),
            upstreams: Vec::new(),
            clients: Vec::new(),
            sagas: Vec::new(),
            runner: Runner::new(),
            crashes: Vec::new(),
            pauses: Vec::new(),
            changes: Vec::new(),
            warm_up: Duration::ZERO,
            sample: None,
            most_events: MOST_EVENTS,
            most_present: MOST_PRESENT,
        }
    }

    /// Adds a service.
    pub fn service(&mut self, service: Service) -> ServiceId {
        self.services.push(service);
        ServiceId(self.services.len() - 1)
    }

    /// Adds an upstream whose endpoints are all replicas of these services, in their order. If
    /// `config` names endpoints, there have to be as many.
    ///
    /// # Errors
    /// A setting that cannot work, or another number of endpoints.
    ///
    /// # Panics
    /// If a service is of another model.
    pub fn upstream(
        &mut self,
        config: Config,
        services: &[ServiceId],
    ) -> Result<UpstreamId, ConfigError> {
        let places = self.places(services);
        self.upstream_at(config, &places)
    }

    /// Adds an upstream whose endpoints are at these places. If `config` names endpoints, there have
    /// to be as many.
    ///
    /// # Errors
    /// As [`Model::upstream`].
    ///
    /// # Panics
    /// If a service is of another model, or has no such replica.
    pub fn upstream_at(
        &mut self,
        config: Config,
        places: &[Place],
    ) -> Result<UpstreamId, ConfigError> {
        let is_there = |place: &Place| {
            let service = self.services.get(place.service.0);
            service.is_some_and(|service| place.replica.is_none_or(|one| one < service.replicas))
        };
        assert!(places.iter().all(is_there), "places of this model");
        let number = self.upstreams.len();
        let seed = Draws::new(self.seed).bits(number as u32, Purpose::State, 0);
        let config = with_endpoints(config, places.len());
        let policies = Upstream::new(config.clone(), seed)?;
        if policies.endpoints().get() != places.len() {
            return Err(ConfigError::new(
                "endpoints",
                "must be as many as the services have replicas",
            ));
        }
        self.upstreams.push(Through {
            policies: Policies::Outlast(Arc::new(policies)),
            places: places.to_vec(),
            config: Some(config),
        });
        Ok(UpstreamId(number))
    }

    /// Adds an upstream without Outlast, whose attempts go to all replicas of these services in turn.
    ///
    /// # Panics
    /// If a service is of another model, or there is none.
    pub fn plain(&mut self, plain: Plain, services: &[ServiceId]) -> UpstreamId {
        let places = self.places(services);
        assert!(!places.is_empty(), "a service to call");
        self.upstreams.push(Through {
            policies: Policies::Plain(plain),
            places,
            config: None,
        });
        UpstreamId(self.upstreams.len() - 1)
    }

    fn places(&self, services: &[ServiceId]) -> Vec<Place> {
        let replicas = |service: &ServiceId| {
            let (service, count) = (*service, self.services[service.0].replicas);
            (0..count).map(move |replica| Place::replica(service, replica))
        };
        services.iter().flat_map(replicas).collect()
    }

    /// Adds a client.
    ///
    /// # Panics
    /// If an upstream of it is of another model.
    pub fn client(&mut self, client: Client) -> ClientId {
        assert!(
            client
                .upstreams
                .iter()
                .all(|one| *one < self.upstreams.len()),
            "upstreams of this model"
        );
        self.clients.push(client);
        ClientId(self.clients.len() - 1)
    }

    /// Adds sagas.
    ///
    /// # Panics
    /// If an upstream of a step is of another model, or has no policies of Outlast's.
    pub fn sagas(&mut self, sagas: Sagas) -> SagasId {
        let is_there = |one: usize| {
            let through = self.upstreams.get(one);
            through.is_some_and(|through| matches!(through.policies, Policies::Outlast(_)))
        };
        assert!(sagas.upstreams().all(is_there), "upstreams of this model");
        self.sagas.push(sagas);
        SagasId(self.sagas.len() - 1)
    }

    /// What goes on with sagas. Default: [`Runner::new`].
    pub fn runner(&mut self, runner: Runner) {
        self.runner = runner;
    }

    /// The runner of sagas crashes, and is away for so long.
    pub fn crash(&mut self, at: Duration, away: Duration) {
        self.crashes.push((Time::ZERO + at, away));
    }

    /// Somebody pauses sagas, and lets them go on so long after, at the pace of
    /// [`Runner::resumed_a_second`]: meanwhile no attempt of a step begins, what has to be undone is
    /// undone, and sagas begin and wait. Who finds the runner away waits for it. The last word counts.
    ///
    /// # Panics
    /// If the sagas are of another model.
    pub fn pause(&mut self, sagas: SagasId, at: Duration, lasts: Duration) {
        assert!(sagas.0 < self.sagas.len(), "sagas of this model");
        let from = Time::ZERO + at;
        self.pauses.push((from, sagas.0, true));
        self.pauses.push((from + lasts, sagas.0, false));
    }

    /// Something happens to all replicas of a service.
    ///
    /// # Panics
    /// If the service is of another model.
    pub fn change(&mut self, at: Duration, service: ServiceId, change: Change) {
        self.plan(at, service, None, change);
    }

    /// Something happens to one replica, counted from 0.
    ///
    /// # Panics
    /// If the service is of another model, or has no such replica.
    pub fn change_one(&mut self, at: Duration, service: ServiceId, replica: u32, change: Change) {
        assert!(
            replica < self.services[service.0].replicas,
            "a replica that is there"
        );
        self.plan(at, service, Some(replica), change);
    }

    fn plan(&mut self, at: Duration, service: ServiceId, replica: Option<u32>, change: Change) {
        assert!(service.0 < self.services.len(), "a service of this model");
        let happens = Happens {
            service: service.0,
            replica,
            change,
        };
        self.changes.push((Time::ZERO + at, happens));
    }

    /// Calls that begin before this, and what services did before, are not counted. Default: all
    /// is.
    pub fn warm_up(&mut self, time: Duration) {
        self.warm_up = time;
    }

    /// Looks at services and upstreams at this interval, for [`Report::samples`]. Default: it does
    /// not.
    pub fn sample(&mut self, interval: Duration) {
        self.sample = Some(interval.max(Duration::from_millis(1)));
    }

    /// How much may happen before a run is given up. Default 10^10.
    pub fn most_events(&mut self, events: u64) {
        self.most_events = events;
    }

    /// How many calls and requests may be there at once before a run is given up. Default 10 million.
    pub fn most_present(&mut self, present: usize) {
        self.most_present = present;
    }

    /// Runs until `time`, and then on without new calls until nobody waits any more.
    ///
    /// # Errors
    /// If a bound is reached, which says what to change.
    pub fn run(self, time: Duration) -> Result<Report, RunError> {
        World::new(self, Time::ZERO + time).run()
    }
}

/// A configuration without endpoints gets one for each place.
fn with_endpoints(config: Config, places: usize) -> Config {
    if !config.endpoints().is_empty() {
        return config;
    }
    let number = |config: Config, number: usize| config.endpoint(number.to_string());
    (0..places).fold(config, number)
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    pub(crate) clients: Vec<ClientReport>,
    pub(crate) services: Vec<ServiceReport>,
    pub(crate) upstreams: Vec<Option<Stats>>,
    pub(crate) sagas: SagasReport,
    /// A hash of everything that happened, in its order: equal for equal runs.
    pub hash: u64,
    /// How it looked from time to time, if [`Model::sample`] was called.
    pub samples: Vec<Sample>,
    /// How much happened.
    pub events: u64,
    /// For how long was measured, in virtual time.
    pub measured: Duration,
}

impl Report {
    /// What became of a client's calls.
    pub fn client(&self, client: ClientId) -> &ClientReport {
        &self.clients[client.0]
    }

    /// How a service did.
    pub fn service(&self, service: ServiceId) -> &ServiceReport {
        &self.services[service.0]
    }

    /// What became of sagas.
    pub fn saga(&self, sagas: SagasId) -> &SagaReport {
        &self.sagas.sagas[sagas.0]
    }

    /// What became of all sagas, and of their runner.
    pub fn sagas(&self) -> &SagasReport {
        &self.sagas
    }

    /// How the policies of an upstream stand at the end; `None` for one without Outlast.
    pub fn upstream(&self, upstream: UpstreamId) -> Option<&Stats> {
        self.upstreams[upstream.0].as_ref()
    }
}

/// How it looks at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When, from the start of the run.
    pub at: Duration,
    /// Sagas that neither had ended nor waited for somebody.
    pub sagas: u64,
    present: Vec<u64>,
    open: Vec<u32>,
}

impl Sample {
    pub(crate) fn new(at: Duration, sagas: u64, present: Vec<u64>, open: Vec<u32>) -> Sample {
        Sample {
            at,
            sagas,
            present,
            open,
        }
    }

    /// The most requests at once at a service, waiting or worked on, since the last sample.
    pub fn present(&self, service: ServiceId) -> u64 {
        self.present[service.0]
    }

    /// How many of an upstream's breakers do not let calls pass as usual: they are open or try.
    pub fn open(&self, upstream: UpstreamId) -> u32 {
        self.open[upstream.0]
    }
}

/// Why a run was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// More happened than may.
    Events {
        /// The bound.
        most: u64,
        /// When, in virtual time.
        at: Duration,
    },
    /// More calls and requests were there at once than may.
    Present {
        /// The bound.
        most: usize,
        /// When, in virtual time.
        at: Duration,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Events { most, at } => write!(
                f,
                "more than {most} events until {at:?}: run it for a shorter time, or with less load"
            ),
            RunError::Present { most, at } => write!(
                f,
                "more than {most} calls at once at {at:?}: give calls a deadline or services a queue \
                 with a bound, or run it for a shorter time"
            ),
        }
    }
}

impl std::error::Error for RunError {}

const MOST_EVENTS: u64 = 10_000_000_000;
const MOST_PRESENT: usize = 10_000_000;
