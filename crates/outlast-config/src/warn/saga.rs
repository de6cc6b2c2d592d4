//! Sagas that can work, but leave something to chance.

use crate::policies;
use crate::problem::Problem;
use crate::read::saga::{places, sagas};
use crate::sections::{SAGA_RETRY, SAGAS, STEP, UNDO, UNDO_RETRY};
use crate::template::Root;
use crate::view::View;

pub(super) fn of_sagas(file: View<'_>, found: &mut Vec<Problem>) {
    let view = file.part("sagas", &SAGAS);
    let limits = view.part("limits", policies::section_of(&SAGAS, "limits"));
    let records = limits.count("records").unwrap_or_default();
    for (_, saga) in sagas(view) {
        for step in crate::read::saga::steps(saga).into_iter().flatten() {
            let step = View::new(step, &STEP);
            of_attempts(step.part("retry", &SAGA_RETRY), records, found);
            let Some(undo) = step.given_part("undo", &UNDO) else {
                continue;
            };
            of_attempts(undo.part("retry", &UNDO_RETRY), records, found);
            for (path, place) in places(undo) {
                let is_own = matches!(&path.root, Root::Output(name) if Some(name.as_str()) == step.text("name"));
                if is_own && !path.optional {
                    found.push(Problem::new(
                        place,
                        "if nobody knows whether the step was done, it has no output to undo it by",
                        "let the receiver find it by the saga's id, or end the place with `?`",
                    ));
                }
            }
        }
    }
}

/// A failed attempt is two entries of the log, that it begins and how it ends.
fn of_attempts(retry: View<'_>, records: u32, found: &mut Vec<Problem>) {
    let attempts = retry.count("attempts").unwrap_or_default();
    if u64::from(attempts) * 2 > u64::from(records) {
        found.push(Problem::new(
            retry.value_place("attempts"),
            format!("the log has room for {} attempts", records / 2),
            "raise `sagas.limits.records`, or have it tried less often",
        ));
    }
}
