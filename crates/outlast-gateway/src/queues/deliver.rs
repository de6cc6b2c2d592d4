//! One delivery: the request as it was kept, through the upstream's policies, and what its answer means.

use std::sync::Arc;

use outlast_config::plan::SagaMeaning;
use outlast_saga::queue::{Delivery, DeliveryError};
use tokio::time::Instant;

use super::keep::Kept;
use super::{Came, Line};
use crate::sagas::call::{Answered, Call, To};
use crate::sagas::step::{Callers, LONGEST_PAUSE, excerpt};

/// Whom a queue is delivered to.
#[derive(Debug)]
pub(super) struct Receiver {
    line: Arc<Line>,
    to: Arc<To>,
    callers: Arc<Callers>,
}

impl Receiver {
    pub(super) fn new(line: &Arc<Line>, upstream: String, callers: &Arc<Callers>) -> Receiver {
        Receiver {
            to: Arc::new(To {
                upstream,
                outcomes: line.plan.outcomes.clone(),
                bytes: MOST_ANSWER,
            }),
            line: Arc::clone(line),
            callers: Arc::clone(callers),
        }
    }

    /// Makes the request. A failure says whether it was done.
    pub(super) async fn deliver(&self, delivery: Delivery) -> Result<(), DeliveryError> {
        let came = self.ask(&delivery).await;
        let counts = &self.line.counts;
        counts.came(match &came {
            Ok(()) => Came::Delivered,
            Err(DeliveryError::Permanent(_)) => Came::Permanent,
            Err(DeliveryError::Unknown(_)) => Came::Unknown,
            Err(DeliveryError::NotMade { .. }) => Came::NotMade,
            Err(_) => Came::Transient,
        });
        came
    }

    async fn ask(&self, delivery: &Delivery) -> Result<(), DeliveryError> {
        let kept = Kept::read(delivery.bytes());
        let kept = kept.ok_or_else(|| DeliveryError::permanent("it is no request"))?;
        let upstream = &self.to.upstream;
        let call = Call {
            to: Arc::clone(&self.to),
            method: kept.method,
            path: kept.path,
            headers: kept.headers,
            body: kept.body,
            // It is among the fields.
            key: None,
            deadline: Instant::now() + self.line.plan.timeout,
        };
        let answered = self.callers.call(call, true);
        let answer = match answered.await {
            Answered::Unsent {
                error,
                after,
                tried,
            } => {
                let error = format!("{upstream} was not asked: {error}");
                return Err(match (tried, after) {
                    (true, after) => transient(error, after),
                    (false, None) => DeliveryError::not_made(error),
                    (false, Some(after)) => {
                        DeliveryError::not_made_after(error, after.min(LONGEST_PAUSE))
                    }
                });
            }
            Answered::Lost(error) => {
                return Err(DeliveryError::unknown(format!("{upstream}: {error}")));
            }
            Answered::Head(answer) => answer,
        };
        let meaning = SagaMeaning::of(&self.to.outcomes, answer.status.as_u16());
        if meaning == SagaMeaning::Success {
            // Nobody reads the rest.
            return Ok(());
        }
        let said = excerpt(&answer.body.unwrap_or_default());
        let error = format!("{upstream} answered {}{said}", answer.status);
        Err(match meaning {
            // An attempt before this one, within the same call, got no answer.
            _ if answer.lost => DeliveryError::unknown(error),
            SagaMeaning::Transient => transient(error, answer.after),
            SagaMeaning::Permanent => DeliveryError::permanent(error),
            SagaMeaning::Unknown | SagaMeaning::Success => DeliveryError::unknown(error),
        })
    }
}

fn transient(error: String, after: Option<std::time::Duration>) -> DeliveryError {
    match after {
        Some(after) => DeliveryError::transient_after(error, after.min(LONGEST_PAUSE)),
        None => DeliveryError::transient(error),
    }
}

/// Of an answer that is read for its error only.
const MOST_ANSWER: usize = 64 * 1024;
