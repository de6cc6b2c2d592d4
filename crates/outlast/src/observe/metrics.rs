//! Events as counters and histograms.

use metrics::{counter, gauge, histogram};
use outlast_core::breaker::State;
use outlast_core::call::Kind;
use outlast_core::check;
use outlast_core::event::{Event, Observer};

/// Counts with the `metrics` facade.
///
/// | metric | labels |
/// |---|---|
/// | `outlast_attempts_total` | upstream, endpoint, outcome |
/// | `outlast_attempt_seconds` (histogram) | upstream, endpoint |
/// | `outlast_extra_attempts_total` | upstream, kind |
/// | `outlast_rejections_total` | upstream, reason |
/// | `outlast_would_reject_total` (shadow mode) | upstream, reason |
/// | `outlast_would_start_total` (shadow mode) | upstream, kind |
/// | `outlast_fallbacks_total` | upstream |
/// | `outlast_would_fall_back_total` (shadow mode) | upstream |
/// | `outlast_breaker_open` (gauge: 1 open, 0.5 half-open, 0 closed) | upstream, endpoint |
/// | `outlast_ejections_total`, `outlast_would_eject_total` (shadow mode) | upstream, endpoint, reason |
/// | `outlast_endpoint_ejected` (gauge: 1 ejected, 0 back) | upstream, endpoint |
/// | `outlast_endpoint_up` (gauge: 1 its checks pass, 0 they fail) | upstream, endpoint |
/// | `outlast_zone_evacuated` (gauge: 1 evacuated, 0 returned) | upstream, zone |
/// | `outlast_endpoints` (gauge), `outlast_membership_changes_total` | upstream |
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics;

impl Observer for Metrics {
    fn event(&self, upstream: &str, event: &Event<'_>) {
        let upstream = upstream.to_owned();
        match *event {
            Event::Started {
                kind: Kind::First, ..
            } => {}
            Event::Started { kind, .. } => {
                let kind = kind.name();
                counter!("outlast_extra_attempts_total", "upstream" => upstream, "kind" => kind)
                    .increment(1);
            }
            Event::Ended {
                endpoint,
                outcome,
                took,
                ..
            } => {
                let endpoint = endpoint.to_owned();
                histogram!(
                    "outlast_attempt_seconds",
                    "upstream" => upstream.clone(), "endpoint" => endpoint.clone()
                )
                .record(took);
                counter!(
                    "outlast_attempts_total",
                    "upstream" => upstream, "endpoint" => endpoint, "outcome" => outcome.name()
                )
                .increment(1);
            }
            Event::Rejected(rejection) => {
                let reason = rejection.reason.name();
                counter!("outlast_rejections_total", "upstream" => upstream, "reason" => reason)
                    .increment(1);
            }
            Event::WouldReject(rejection) => {
                let reason = rejection.reason.name();
                counter!("outlast_would_reject_total", "upstream" => upstream, "reason" => reason)
                    .increment(1);
            }
            Event::WouldStart(kind) => {
                let kind = kind.name();
                counter!("outlast_would_start_total", "upstream" => upstream, "kind" => kind)
                    .increment(1);
            }
            Event::FellBack(_) => {
                counter!("outlast_fallbacks_total", "upstream" => upstream).increment(1);
            }
            Event::WouldFallBack(_) => {
                counter!("outlast_would_fall_back_total", "upstream" => upstream).increment(1);
            }
            Event::Breaker { endpoint, change } => {
                let open = match change.to {
                    State::Open | State::ForcedOpen => 1.0,
                    State::HalfOpen => 0.5,
                    _ => 0.0,
                };
                gauge!(
                    "outlast_breaker_open",
                    "upstream" => upstream, "endpoint" => endpoint.to_owned()
                )
                .set(open);
            }
            _ => self.redundancy(upstream, event),
        }
    }
}

impl Metrics {
    /// What happens to endpoints and zones.
    fn redundancy(&self, upstream: String, event: &Event<'_>) {
        match *event {
            Event::Check { endpoint, change } => {
                let up = if change == check::Change::Up {
                    1.0
                } else {
                    0.0
                };
                let endpoint = endpoint.to_owned();
                gauge!("outlast_endpoint_up", "upstream" => upstream, "endpoint" => endpoint)
                    .set(up);
            }
            Event::Ejected {
                endpoint, reason, ..
            } => {
                let (endpoint, reason) = (endpoint.to_owned(), reason.name());
                gauge!(
                    "outlast_endpoint_ejected",
                    "upstream" => upstream.clone(), "endpoint" => endpoint.clone()
                )
                .set(1.0);
                counter!(
                    "outlast_ejections_total",
                    "upstream" => upstream, "endpoint" => endpoint, "reason" => reason
                )
                .increment(1);
            }
            Event::WouldEject { endpoint, reason } => {
                let (endpoint, reason) = (endpoint.to_owned(), reason.name());
                counter!(
                    "outlast_would_eject_total",
                    "upstream" => upstream, "endpoint" => endpoint, "reason" => reason
                )
                .increment(1);
            }
            Event::Returned { endpoint } => {
                let endpoint = endpoint.to_owned();
                gauge!("outlast_endpoint_ejected", "upstream" => upstream, "endpoint" => endpoint)
                    .set(0.0);
            }
            Event::Evacuated { zone } => {
                let zone = zone.to_owned();
                gauge!("outlast_zone_evacuated", "upstream" => upstream, "zone" => zone).set(1.0);
            }
            Event::ZoneReturned { zone } => {
                let zone = zone.to_owned();
                gauge!("outlast_zone_evacuated", "upstream" => upstream, "zone" => zone).set(0.0);
            }
            Event::Membership { endpoints, .. } => {
                gauge!("outlast_endpoints", "upstream" => upstream.clone()).set(endpoints as f64);
                counter!("outlast_membership_changes_total", "upstream" => upstream).increment(1);
            }
            _ => {}
        }
    }
}
