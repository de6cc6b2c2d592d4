//! Providers of which only one may do a piece of work, and what they are likely meant to be.

use crate::plan::{Meaning, Upstream};
use crate::problem::Problem;
use crate::view::View;

/// Looks at an upstream whose keys stay with one provider, if it is one.
pub(super) fn of_upstream(view: View<'_>, upstream: &Upstream, found: &mut Vec<Problem>) {
    let Some(exclusive) = &upstream.exclusive else {
        return;
    };
    if exclusive.journal.is_none() {
        found.push(Problem::new(
            view.place_of("exclusive"),
            "after a restart nobody knows which provider was asked, and another may be",
            "name a file: `exclusive: { journal: PATH }`",
        ));
    }
    let refuses = |means| matches!(means, Meaning::Transient | Meaning::Overload);
    let first = upstream.endpoints.first();
    let is_definite = first.is_some_and(|first| {
        let mut outcomes = first.dialect.outcomes.iter();
        outcomes.any(|outcome| refuses(outcome.means))
    });
    if let Some(first) = first.filter(|_| !is_definite) {
        let message = format!(
            "no status of `{}` is a definite no: only what could not be sent goes elsewhere",
            first.name
        );
        let mend = "say which are, in the endpoint's `outcomes`, such as `{ 503: transient }`";
        found.push(Problem::new(view.place_of("endpoints"), message, mend));
    }
}
