//! What a budget of runs is spent on.

use std::num::NonZeroUsize;

use outlast_sim::tune::Search;

/// How many candidates, and how many runs for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// How many points of the hypercube are tried.
    pub(super) points: usize,
    pub(super) search: Search,
    /// How many runs at a time decide whether a change is needed.
    pub(super) deciding: u32,
    /// Runs for each setting that is moved up or down in the end.
    pub(super) moved: u32,
}

impl Plan {
    /// At most so many runs for so many settings: up to six tenths for the search and for putting back
    /// what is not needed, the rest in halves for the last comparison and for the sensitivities.
    ///
    /// # Errors
    /// The least budget for so many settings, if it is more than this one.
    pub(super) fn new(
        budget: u32,
        settings: usize,
        seed: u64,
        threads: NonZeroUsize,
    ) -> Result<Plan, u64> {
        let budget = u64::from(budget);
        let settings = settings as u64;
        let search = |runs, fresh| Search {
            seed,
            runs,
            finalists: FINALISTS,
            fresh,
            threads,
        };
        let cost = |points: usize, runs: u32| {
            let deciding = u64::from(deciding(points, runs));
            search(runs, 0).cost(points + 1) + (settings + 1) * deciding
        };
        // The finalists with what there is, and then what there is and the suggestion.
        let compared = FINALISTS as u64 + 1 + 2;
        let least = cost(LEAST_POINTS, 1) + LEAST_FRESH * compared;
        if least > budget {
            return Err(least);
        }
        let most = budget * 6 / 10;
        let mut points = POINTS;
        while points > LEAST_POINTS && cost(points, 1) > most {
            points /= 2;
        }
        let mut runs = 1;
        while cost(points, runs + 1) <= most {
            runs += 1;
        }
        let left = budget.saturating_sub(cost(points, runs));
        let fresh = (left / 2 / compared).max(LEAST_FRESH);
        let left = left.saturating_sub(fresh * compared);
        let moved = (left / (2 * settings.max(1))).min(fresh);
        Ok(Plan {
            points,
            search: search(runs, fresh as u32),
            deciding: deciding(points, runs),
            moved: moved as u32,
        })
    }
}

/// As many runs as the last round of the search has.
fn deciding(points: usize, runs: u32) -> u32 {
    let mut left = points + 1;
    let mut runs = runs;
    while left > 4 {
        left /= 4;
        runs *= 4;
    }
    runs
}

/// As many as the first round has.
const POINTS: usize = 64;
const LEAST_POINTS: usize = 8;
/// So many are compared with fresh seeds.
const FINALISTS: usize = 5;
/// Less runs show no difference that is worth a look.
const LEAST_FRESH: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_kept() {
        for budget in [200, 500, 2000, 100_000] {
            for settings in [1, 2, 6, 20] {
                let plan = Plan::new(budget, settings, 1, NonZeroUsize::MIN).unwrap();
                let search = plan.search.cost(plan.points + 1);
                let settings = settings as u64;
                let deciding = (settings + 1) * u64::from(plan.deciding);
                let rest = deciding + settings * u64::from(2 * plan.moved);
                let cost = search + rest + 2 * u64::from(plan.search.fresh);
                assert!(
                    cost <= u64::from(budget),
                    "{budget} {settings}: {cost} {plan:?}"
                );
                let is_spent = cost * 10 >= u64::from(budget) * 6;
                assert!(
                    is_spent || budget < 1000,
                    "{budget} {settings}: {cost} {plan:?}"
                );
            }
        }
        let plan = Plan::new(500, 5, 1, NonZeroUsize::MIN).unwrap();
        assert_eq!((plan.points, plan.search.runs, plan.deciding), (64, 1, 16));
        assert_eq!((plan.search.fresh, plan.moved), (15, 12));
        let least = Plan::new(200, 100, 1, NonZeroUsize::MIN).unwrap_err();
        assert!(
            Plan::new(least as u32, 100, 1, NonZeroUsize::MIN).is_ok(),
            "{least}"
        );
    }
}
