//! `outlast sim --find-limit`: how much more the promises bear.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use outlast_sim::scenario::{Head, Scaled, Trial, head_room};
use outlast_sim::statistics::Share;
use serde_json::json;

use super::{Sim, seeds, settled, threads};
use crate::commands::{FindLimit, Runs};
use crate::{FAILED, UNABLE, output};

pub(super) fn find(sim: &Sim, trial: &Trial, what: FindLimit) -> ExitCode {
    if what == FindLimit::Trigger && trial.scenario().over().is_none() {
        output::tell(format_args!(
            "nothing happens that could last longer: add something with `to` to `timeline`"
        ));
        return ExitCode::from(FAILED);
    }
    let scenario = trial.scenario();
    if scenario.promises.is_empty() && scenario.over().is_none() {
        output::tell(
            "nothing can break here: add `promises`, or something with `to` to `timeline`, from which \
             runs recover or do not",
        );
        return ExitCode::from(FAILED);
    }
    let (seed, runs) = seeds(sim, trial);
    let runs = match runs {
        Runs::Exactly(runs) => runs,
        // Half of them have to be told from a few.
        Runs::Auto => 20,
    };
    let trial = match settled(trial) {
        Ok(trial) => trial,
        Err(failure) => {
            output::tell(failure);
            return ExitCode::from(UNABLE);
        }
    };
    let scaled = match what {
        FindLimit::Load => Scaled::Load,
        FindLimit::Trigger => Scaled::Trigger,
    };
    let shown = io::stderr().is_terminal();
    let mut tell = |factor: f64, share: Share| {
        if shown {
            output::tell(format_args!(
                "{factor:.3} times: kept in {} of {} runs",
                share.yes, share.of
            ));
        }
    };
    match head_room(&trial, scaled, seed, runs, threads(sim), &mut tell) {
        Ok(head) => {
            let told = if sim.json {
                format!("{:#}\n", document(&head, what))
            } else {
                page(&head, what, !trial.scenario().promises.is_empty())
            };
            // Today's point is the one that has to hold.
            let code = match head.holds >= 1.0 {
                true => ExitCode::SUCCESS,
                false => ExitCode::from(FAILED),
            };
            output::end(&told, code)
        }
        Err(failure) => {
            output::tell(failure);
            ExitCode::from(UNABLE)
        }
    }
}

fn name(what: FindLimit) -> &'static str {
    match what {
        FindLimit::Load => "load",
        FindLimit::Trigger => "duration of what happens",
    }
}

/// Where there are no promises, it is told of runs that recover.
fn page(head: &Head, what: FindLimit, promised: bool) -> String {
    let mut tried = head.tried.clone();
    tried.sort_by(|one, other| one.0.total_cmp(&other.0));
    let line = |(factor, share): &(f64, Share)| {
        format!(
            "  {factor:>7.3} times  kept in {} of {} runs ({:.0} to {:.0} % of all)\n",
            share.yes,
            share.of,
            share.low * 100.0,
            share.high * 100.0
        )
    };
    let lines: String = tried.iter().map(line).collect();
    let name = name(what);
    let (who, hold, fail) = match promised {
        true => ("promises", "hold", "are broken"),
        false => ("runs", "recover", "do not"),
    };
    let verdict = match head.breaks {
        None => format!(
            "{who} {hold} at {:.0} times the {name}, the most that is tried",
            head.holds
        ),
        Some(breaks) if head.holds == 0.0 => {
            format!("{who} {fail} at {breaks:.3} times the {name} already, and above")
        }
        Some(breaks) => format!(
            "{who} {hold} at {:.3} times the {name} and {fail} at {breaks:.3}: head-room {:+.0} %",
            head.holds,
            (f64::midpoint(head.holds, breaks) - 1.0) * 100.0
        ),
    };
    format!("{lines}\n{verdict}\n")
}

fn document(head: &Head, what: FindLimit) -> serde_json::Value {
    let tried: Vec<_> = head
        .tried
        .iter()
        .map(|(factor, share)| json!({ "factor": factor, "kept": share.yes, "runs": share.of }))
        .collect();
    let middle = head
        .breaks
        .map(|breaks| f64::midpoint(head.holds, breaks) - 1.0);
    json!({
        "of": name(what),
        "holds": head.holds,
        "breaks": head.breaks,
        "head_room": middle,
        "tried": tried,
    })
}
