//! What the gateway says of itself: alive, started, ready, and how everything it uses is.
//!
//! It is the library's [`Health`] on the admin listener's runtime: the file's checks are probed
//! there, every worker is watched from there, and each upstream is an informative check that looks
//! at its breakers. A registry cannot lose checks, so a reload that changes them begins a new one;
//! otherwise the old one goes on, with what it knows. The gRPC health service, and whoever watches
//! there, follow from one to the next.

use std::sync::Arc;

use outlast::ConfigError;
use outlast::health::{Answer, Config, Health, Latest, Setup, log, probe};
use outlast_config::plan::{self, HealthCheck, Probe, Setting};
use tokio::runtime::Handle;

use crate::admin::read_secret;
use crate::table::Entry;

/// What the gateway says of itself.
#[derive(Debug)]
pub(crate) struct Vitals {
    health: Health,
    /// The section of the file that it was made from.
    source: String,
    /// The upstreams that it shows.
    upstreams: Vec<Arc<crate::table::Upstream>>,
}

impl Vitals {
    /// The former one if it says the same; or else a new one, whose checks run on `executor`.
    pub(crate) fn take_over(
        plan: &plan::Health,
        entries: &[Entry],
        former: Option<&Arc<Vitals>>,
        executor: &Handle,
    ) -> Result<Arc<Vitals>, String> {
        let upstreams: Vec<_> = entries
            .iter()
            .map(|entry| Arc::clone(&entry.upstream))
            .filter(|upstream| plan.upstreams && upstream.has_breakers())
            .collect();
        if let Some(former) = former
            && former.source == plan.source
            && former.shows(&upstreams)
        {
            return Ok(Arc::clone(former));
        }
        let _inside = executor.enter();
        let setup = Setup::default().stuck_after(plan.stuck_after).observer(log);
        let health = Health::with(setup).map_err(|error| format!("health: {error}"))?;
        for check in &plan.checks {
            add(&health, check)
                .map_err(|error| format!("health.checks.{}: {error}", check.name))?;
        }
        for upstream in &upstreams {
            let config = Config::default().critical(false).down_after(1);
            let name = &upstream.plan.name;
            health
                .check(name, config, probe::upstream(&upstream.policies))
                .map_err(|error| format!("health: upstream {name}: {error}"))?;
        }
        Ok(Arc::new(Vitals {
            health,
            source: plan.source.clone(),
            upstreams,
        }))
    }

    fn shows(&self, upstreams: &[Arc<crate::table::Upstream>]) -> bool {
        let mut pairs = self.upstreams.iter().zip(upstreams);
        self.upstreams.len() == upstreams.len() && pairs.all(|(own, other)| Arc::ptr_eq(own, other))
    }

    /// What the gRPC health service begins with.
    pub(crate) fn latest(&self) -> Latest {
        Latest::new(&self.health)
    }

    /// This is what the gRPC health service answers from now on.
    pub(crate) fn hold(&self, latest: &Latest) {
        latest.replace(&self.health);
    }

    /// Watches the worker whose runtime this is called in.
    pub(crate) fn watch_worker(&self, index: usize) {
        self.health.watch_executor(&format!("worker-{index}"));
    }

    /// Whether the gateway is on its way out.
    pub(crate) fn drains(&self, drains: bool) {
        self.health.set_draining(drains);
    }

    /// The document at a path, if there is one.
    pub(crate) async fn answer(&self, path: &str) -> Option<Answer> {
        match path {
            "/health/deep" => Some(self.health.deep().await),
            path => self.health.answer(path),
        }
    }
}

fn add(health: &Health, check: &HealthCheck) -> Result<(), String> {
    let (name, config) = (check.name.as_str(), check.config.clone());
    let said = |error: ConfigError| error.to_string();
    match &check.probe {
        Probe::Tcp(address) => health.check(name, config, probe::tcp(address).map_err(said)?),
        Probe::Http(url) => health.check(name, config, probe::http(url).map_err(said)?),
        Probe::Grpc { url, service } => {
            health.check(name, config, probe::grpc(url, service).map_err(said)?)
        }
        Probe::Redis(url) => health.check(name, config, probe::redis(&read(url)?).map_err(said)?),
        Probe::Postgres(settings) => {
            let settings = read(settings)?;
            health.check(name, config, probe::postgres(&settings).map_err(said)?)
        }
        Probe::Disk { path, free } => health.check(
            name,
            config,
            probe::disk(&path.display().to_string(), *free),
        ),
    }
    .map_err(said)
}

fn read(setting: &Setting) -> Result<String, String> {
    match setting {
        Setting::Plain(text) => Ok(text.clone()),
        Setting::Kept(secret) => read_secret(secret),
    }
}
