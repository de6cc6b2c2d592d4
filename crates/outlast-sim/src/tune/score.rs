//! What a run says of a candidate, and what several do.

use outlast_config::scenario::Promise;

use crate::scenario::Run;

/// What a run says of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Which promises were kept, in their order.
    pub kept: Vec<bool>,
    /// Whether all was well in the end.
    pub recovered: bool,
    /// The share of calls that were answered well and in time.
    pub goodput: f64,
    /// Attempts a call.
    pub attempts: f64,
    /// One in a hundred good calls took longer, in seconds; infinite if no call was good.
    pub p99: f64,
}

impl Score {
    /// Of a run with these promises. What does not happen is recovered from.
    pub fn of(run: &Run, promises: &[Promise]) -> Score {
        let mut numbered = promises.iter().enumerate();
        let p99 = run.quantiles[1];
        Score {
            kept: numbered
                .by_ref()
                .map(|(number, promise)| run.keeps(number, promise))
                .collect(),
            recovered: run.recovery.is_none_or(|recovery| recovery.recovered),
            goodput: run.goodput,
            attempts: run.attempts,
            p99: if p99.is_finite() { p99 } else { f64::INFINITY },
        }
    }

    /// Of a run that went beyond all bounds: nothing was kept, and nothing was good.
    pub fn lost(promises: usize) -> Score {
        Score {
            kept: vec![false; promises],
            recovered: false,
            goodput: 0.0,
            attempts: f64::INFINITY,
            p99: f64::INFINITY,
        }
    }
}

/// What the runs of a candidate say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// How many there were.
    pub runs: u32,
    /// How much is missing: for each promise, the share of runs in which it has to be kept less that in
    /// which it was, if that is less, added up. 0 if all promises are kept.
    pub missing: f64,
    /// The share of runs in which all was well in the end.
    pub recovered: f64,
    /// The mean.
    pub goodput: f64,
    /// The mean.
    pub attempts: f64,
    /// The mean, in seconds.
    pub p99: f64,
}

impl Standing {
    /// Of these runs; `needs` says in which share of them each promise has to be kept.
    ///
    /// # Panics
    /// If there are no runs, or not as many needs as promises.
    pub fn of(scores: &[Score], needs: &[f64]) -> Standing {
        assert!(!scores.is_empty(), "a standing is that of runs");
        let count = scores.len() as f64;
        let share = |is: &dyn Fn(&Score) -> bool| {
            scores.iter().filter(|score| is(score)).count() as f64 / count
        };
        let mean = |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>() / count;
        let missing = needs.iter().enumerate().map(|(number, need)| {
            let kept = share(&|score| score.kept[number]);
            (need - kept).max(0.0)
        });
        Standing {
            runs: scores.len() as u32,
            missing: missing.sum(),
            recovered: share(&|score| score.recovered),
            goodput: mean(|score| score.goodput),
            attempts: mean(|score| score.attempts),
            p99: mean(|score| score.p99),
        }
    }

    /// Whether all promises are kept; where there are none, whether all runs recovered.
    pub fn is_fine(&self, needs: &[f64]) -> bool {
        self.missing <= 0.0 && (!needs.is_empty() || self.recovered >= 1.0)
    }
}
