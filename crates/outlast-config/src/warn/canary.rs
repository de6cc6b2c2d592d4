//! A canary that can work, but is likely not meant.

use crate::plan::{Plan, Route};
use crate::problem::Problem;
use crate::sections;
use crate::view::View;

/// Looks at the canary of a route, if it has one.
pub(super) fn of_canary(view: View<'_>, route: &Route, plan: &Plan, found: &mut Vec<Problem>) {
    let Some(canary) = &route.canary else {
        return;
    };
    let view = view.part("canary", &sections::CANARY);
    let (old, new) = (
        &plan.upstreams[route.upstream],
        &plan.upstreams[canary.upstream],
    );
    if old.outcomes != new.outcomes {
        let message = format!(
            "`{}` and `{}` are compared, and their statuses do not mean the same",
            old.name, new.name
        );
        found.push(Problem::new(
            view.value_place("upstream"),
            message,
            "give both the same `outcomes`",
        ));
    }
}
