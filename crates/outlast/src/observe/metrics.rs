//! Events as counters and histograms.

use metrics::{counter, gauge, histogram};
use outlast_core::breaker::State;
use outlast_core::call::Kind;
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
            _ => {}
        }
    }
}
