//! Events as log lines.

use outlast_core::breaker::State;
use outlast_core::check;
use outlast_core::event::{Event, Observer};
use tracing::{debug, info, trace, warn};

/// Logs with `tracing`, under the target `outlast`: what operators want to wake up for as a
/// warning, its end as information, rejections and extra attempts at debug level, every attempt
/// at trace level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl Observer for Tracing {
    fn event(&self, upstream: &str, event: &Event<'_>) {
        match *event {
            Event::Breaker { endpoint, change } => {
                let (from, to) = (change.from.name(), change.to.name());
                match change.to {
                    State::Open | State::ForcedOpen => warn!(
                        target: TARGET, upstream, endpoint, from, to,
                        failed = change.tally.failed, total = change.tally.total,
                        "breaker tripped"
                    ),
                    _ => info!(target: TARGET, upstream, endpoint, from, to, "breaker changed"),
                }
            }
            Event::Rejected(rejection) => {
                debug!(target: TARGET, upstream, reason = rejection.reason.name(), "rejected");
            }
            Event::WouldReject(rejection) => {
                let reason = rejection.reason.name();
                debug!(target: TARGET, upstream, reason, "would have rejected");
            }
            Event::WouldStart(kind) => {
                debug!(target: TARGET, upstream, kind = kind.name(), "would have started");
            }
            Event::Started {
                number,
                kind,
                endpoint,
            } => {
                trace!(target: TARGET, upstream, endpoint, number, kind = kind.name(), "attempt");
            }
            Event::Ended {
                number,
                endpoint,
                outcome,
                took,
                cancelled,
            } => trace!(
                target: TARGET, upstream, endpoint, number, outcome = outcome.name(), ?took,
                cancelled, "attempt ended"
            ),
            Event::Waits { number, delay } => {
                debug!(target: TARGET, upstream, number, ?delay, "will try again");
            }
            Event::FellBack(why) => debug!(target: TARGET, upstream, ?why, "fell back"),
            Event::WouldFallBack(why) => {
                debug!(target: TARGET, upstream, ?why, "would have fallen back");
            }
            _ => redundancy(upstream, event),
        }
    }
}

/// What happens to endpoints and zones.
fn redundancy(upstream: &str, event: &Event<'_>) {
    match *event {
        Event::Check { endpoint, change } => match change {
            check::Change::Down => warn!(target: TARGET, upstream, endpoint, "check failed"),
            check::Change::Up => info!(target: TARGET, upstream, endpoint, "check passed"),
        },
        Event::Ejected {
            endpoint, reason, ..
        } => warn!(target: TARGET, upstream, endpoint, reason = reason.name(), "ejected"),
        Event::WouldEject { endpoint, reason } => {
            let reason = reason.name();
            debug!(target: TARGET, upstream, endpoint, reason, "would have been ejected");
        }
        Event::Returned { endpoint } => {
            info!(target: TARGET, upstream, endpoint, "ejection is over");
        }
        Event::Evacuated { zone } => warn!(target: TARGET, upstream, zone, "zone evacuated"),
        Event::ZoneReturned { zone } => info!(target: TARGET, upstream, zone, "zone returns"),
        Event::Membership {
            version,
            endpoints,
            joined,
            left,
        } => info!(target: TARGET, upstream, version, endpoints, joined, left, "endpoints changed"),
        _ => {}
    }
}

const TARGET: &str = "outlast";
