//! How busy an upstream is, and how many instances it wants.
//!
//! With a shedder the limit is what the dependency can do, measured; else it is the bulkhead's, which
//! is what somebody thought it could do. Both are for all instances together.
//!
//! ```text
//! utilisation      = in flight / limit
//! needed           = instances x utilisation / target            (rounded up)
//! instances wanted = needed + max(1, needed / 10)                 (rounded up)
//! ```
//!
//! The second summand is what may be lost, an instance or a tenth of them, without missing the
//! target. What is in flight is known for this instant only; whoever scales averages over minutes.

use crate::table::Upstream;

/// How busy an upstream is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) in_flight: u32,
    pub(crate) limit: u32,
    instances: u32,
    target: f64,
}

impl Load {
    /// `None` if nothing bounds what is in flight.
    pub(crate) fn of(upstream: &Upstream) -> Option<Load> {
        let stats = upstream.policies.stats();
        let (in_flight, limit) = match (stats.shed, stats.bulkhead) {
            (Some(shed), _) => (shed.in_flight, shed.limit),
            (None, Some(bulkhead)) => (bulkhead.active, bulkhead.concurrency),
            (None, None) => return None,
        };
        Some(Load {
            in_flight,
            limit: limit.max(1),
            instances: u32::try_from(stats.endpoints.len()).unwrap_or(u32::MAX),
            target: upstream.plan.target_utilisation.as_f64(),
        })
    }

    /// 1 when it is full; more for a moment when a limit has fallen.
    pub(crate) fn utilisation(&self) -> f64 {
        f64::from(self.in_flight) / f64::from(self.limit)
    }

    /// Instances for the target utilisation, also after one of them, or a tenth, is lost.
    pub(crate) fn instances_wanted(&self) -> u32 {
        let needed = f64::from(self.instances) * self.utilisation() / self.target;
        // What is whole but for the last bits of a float is whole.
        let needed = ((needed - 1e-9).ceil() as u32).max(1);
        needed.saturating_add(needed.div_ceil(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instance_or_a_tenth_may_be_lost() {
        let check = |in_flight, limit, instances, wanted| {
            let load = Load {
                in_flight,
                limit,
                instances,
                target: 0.7,
            };
            assert_eq!(load.instances_wanted(), wanted, "{load:?}");
        };
        check(0, 100, 3, 2);
        check(70, 100, 1, 2);
        check(70, 100, 4, 5);
        check(71, 100, 4, 6);
        check(100, 100, 7, 11);
        check(700, 1000, 30, 33);
    }
}
