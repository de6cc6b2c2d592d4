//! The documents, from state.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outlast_core::health::{Check, Registry, Status};
use outlast_core::time::Time;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Health, lock};
use crate::Clock;

/// A document and the HTTP status that says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200, or 503.
    pub status: u16,
    /// A JSON object.
    pub body: String,
}

impl Answer {
    fn new(holds: bool, document: &impl Serialize) -> Answer {
        Answer {
            status: if holds { 200 } else { 503 },
            body: serde_json::to_string(document).expect("names, texts and numbers are JSON"),
        }
    }
}

impl Health {
    /// The answer to `GET path`, from what is known now; `None` if there is no such document.
    ///
    /// | path | 200 when | document |
    /// |---|---|---|
    /// | `/health/live` | no watched executor is stuck | `{"status":"alive","timestamp":..}` |
    /// | `/health/startup` | [`Health::is_started`] | `{"status":"started"}` |
    /// | `/health/ready` | [`Health::is_ready`] | `{"status":"ready","checks":{NAME:"ok",..,"warmup":"complete"}}` |
    /// | `/health/ready/GROUP` | [`Health::is_group_ready`] | the same, of one group |
    /// | `/health/deep` | no check is down | `{NAME:{"status":"ok","latency_ms":..,..},..}` |
    ///
    /// The deep document asks for new results of the checks on demand without waiting for them;
    /// [`Health::deep`] waits.
    pub fn answer(&self, path: &str) -> Option<Answer> {
        match path.strip_prefix("/health/")? {
            "live" => Some(self.live()),
            "startup" => Some(self.startup()),
            "ready" => Some(self.ready()),
            "deep" => {
                for prober in lock(&self.shared.on_demand).iter() {
                    prober.want();
                }
                Some(self.deep_from_state())
            }
            other => self.group(other.strip_prefix("ready/")?),
        }
    }

    /// The deep document, with results of the checks on demand that are at most an interval old.
    /// However many ask, each of those is probed once per interval at most, and all who ask
    /// meanwhile wait for the same probe, about its timeout at the longest.
    pub async fn deep(&self) -> Answer {
        let has_ended = *self.shared.state.changes.borrow();
        let probers = lock(&self.shared.on_demand).clone();
        let probers = if has_ended { Vec::new() } else { probers };
        for prober in &probers {
            prober.want();
        }
        for prober in probers {
            prober.refresh().await;
        }
        self.deep_from_state()
    }

    fn live(&self) -> Answer {
        let stuck = self.stuck();
        let is_alive = stuck.is_empty();
        let document = Live {
            status: if is_alive { "alive" } else { "stuck" },
            timestamp: wall().as_secs_f64(),
            executors: stuck,
        };
        Answer::new(is_alive, &document)
    }

    fn startup(&self) -> Answer {
        let registry = self.shared.state.registry();
        let is_started = registry.is_started();
        let document = Readiness {
            status: if is_started { "started" } else { "starting" },
            checks: (!is_started).then_some(Lines {
                registry: &registry,
                group: None,
            }),
        };
        Answer::new(is_started, &document)
    }

    fn ready(&self) -> Answer {
        let registry = self.shared.state.registry();
        readiness(&registry, None, registry.is_ready())
    }

    fn group(&self, group: &str) -> Option<Answer> {
        let registry = self.shared.state.registry();
        let is_ready = registry.is_group_ready(group)?;
        Some(readiness(&registry, Some(group), is_ready))
    }

    fn deep_from_state(&self) -> Answer {
        let now = Clock::Precise.now();
        let registry = self.shared.state.registry();
        let document = Deep {
            registry: &registry,
            now,
        };
        Answer::new(registry.is_sound(), &document)
    }
}

fn readiness(registry: &Registry, group: Option<&str>, is_ready: bool) -> Answer {
    let document = Readiness {
        status: if is_ready { "ready" } else { "not ready" },
        checks: Some(Lines { registry, group }),
    };
    Answer::new(is_ready, &document)
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
    /// Seconds since 1970.
    timestamp: f64,
    /// Those that are stuck.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    executors: Vec<String>,
}

#[derive(Serialize)]
struct Readiness<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Lines<'a>>,
}

/// A line per check that is probed in the background, and what the instance says of itself.
struct Lines<'a> {
    registry: &'a Registry,
    group: Option<&'a str>,
}

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for check in self.registry.checks() {
            let belongs = |group: &str| check.groups().iter().any(|name| name == group);
            if !check.is_on_demand() && self.group.is_none_or(belongs) {
                map.serialize_entry(check.name(), &line(check))?;
            }
        }
        map.serialize_entry("warmup", self.registry.warmup().name())?;
        if self.registry.is_draining() {
            map.serialize_entry("drain", "draining")?;
        }
        if !self.registry.is_alive() {
            map.serialize_entry("runtime", "stuck")?;
        }
        map.end()
    }
}

/// `ok`, `pending`, or `error: why`.
fn line(check: &Check) -> String {
    match (check.status(), check.error()) {
        (Status::Down, Some(error)) => format!("error: {error}"),
        (status, _) => status.name().to_owned(),
    }
}

struct Deep<'a> {
    registry: &'a Registry,
    now: Time,
}

impl Serialize for Deep<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let checks = self.registry.checks().iter();
        serializer.collect_map(checks.map(|check| (check.name(), Detail::of(check, self.now))))
    }
}

/// One check, for people and alerts.
#[derive(Serialize)]
struct Detail<'a> {
    status: &'static str,
    critical: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    /// How old the result is.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<f64>,
    /// In a row, up to the last result.
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Detail<'_> {
    fn of(check: &Check, now: Time) -> Detail<'_> {
        let last = check.last();
        Detail {
            status: check.status().name(),
            critical: check.is_critical(),
            latency_ms: last.map(|last| millis(last.latency)),
            age_ms: last.map(|last| millis(now.since(last.at))),
            failures: last.map_or(0, |last| last.failures),
            error: check.error(),
        }
    }
}

/// Milliseconds, to a thousandth.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

#[expect(
    clippy::disallowed_methods,
    reason = "the live document tells the wall clock's time"
)]
fn wall() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}
