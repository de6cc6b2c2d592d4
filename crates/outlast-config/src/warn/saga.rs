//! Sagas that can work, but leave something to chance.

use crate::problem::Problem;
use crate::read::saga::{places, sagas};
use crate::sections::{SAGAS, STEP, UNDO};
use crate::template::Root;
use crate::view::View;

pub(super) fn of_sagas(file: View<'_>, found: &mut Vec<Problem>) {
    let view = file.part("sagas", &SAGAS);
    for (_, saga) in sagas(view) {
        for step in crate::read::saga::steps(saga).into_iter().flatten() {
            let step = View::new(step, &STEP);
            let Some(undo) = step.given_part("undo", &UNDO) else {
                continue;
            };
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
