//! What an upstream's own breakers say.

use outlast_core::breaker::State;

use super::Probing;
use crate::upstream::Upstream;

/// Whether the breaker of at least one endpoint lets calls pass. It sends nothing: it repeats what
/// the calls have found. Make it informative: while an instance is not ready nobody calls, and
/// nothing new is found.
///
/// A half-open breaker is healthy, because only traffic can close it; so is one that an operator
/// has disabled or forced closed. Without breakers it never fails.
pub fn upstream(upstream: &Upstream) -> impl Fn() -> Probing + Send + Sync + use<> {
    let upstream = upstream.clone();
    move || {
        let stats = upstream.stats();
        let states = stats.endpoints.iter().map(|endpoint| {
            let breaker = endpoint.breaker.as_ref();
            breaker.map_or(State::Closed, |breaker| breaker.state)
        });
        Box::pin(std::future::ready(judge(states)))
    }
}

fn judge(states: impl Iterator<Item = State>) -> Result<(), String> {
    let (mut all, mut open) = (0, 0);
    for state in states {
        all += 1;
        open += match state {
            State::Open | State::ForcedOpen => 1,
            _ => 0,
        };
    }
    match open {
        1 if all == 1 => Err("the breaker is open".to_owned()),
        open if open == all => Err(format!("the breakers of all {all} endpoints are open")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_that_is_not_open_is_enough() {
        use State::*;
        for healthy in [
            &[Closed][..],
            &[HalfOpen],
            &[Disabled],
            &[ForcedClosed],
            &[Open, Closed],
        ] {
            assert_eq!(judge(healthy.iter().copied()), Ok(()), "{healthy:?}");
        }
        for (states, error) in [
            (&[Open][..], "the breaker is open"),
            (&[ForcedOpen], "the breaker is open"),
            (
                &[Open, ForcedOpen],
                "the breakers of all 2 endpoints are open",
            ),
        ] {
            assert_eq!(judge(states.iter().copied()), Err(error.to_owned()));
        }
    }
}
