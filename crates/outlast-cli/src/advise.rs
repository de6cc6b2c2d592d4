//! `outlast advise`: settings from what a running gateway has measured.
//!
//! The mathematics is that of [`outlast_sim::advise`]; here it gets the numbers of `/status`, and is
//! shown. With two snapshots only what happened between them counts.

mod page;
mod snapshot;
mod source;

use std::process::ExitCode;
use std::time::Duration;

use outlast_sim::advise::{Goals, Parameter, Recommendation};

use self::snapshot::{Seen, Snapshot};
use crate::commands::Advise;
use crate::{FAILED, UNABLE, WRONG, output};

/// The advice for an upstream.
struct Advice {
    seen: Seen,
    recommendations: Vec<Recommendation>,
}

impl Advice {
    /// What a setting is now, if it is known.
    fn now(&self, recommendation: &Recommendation) -> Option<String> {
        let words = match recommendation.parameter {
            Parameter::Hedge => self.seen.words.hedge.clone(),
            Parameter::Breaker => self.seen.words.breaker.clone(),
            _ => None,
        };
        words.or_else(|| recommendation.current.map(|now| now.to_string()))
    }
}

/// Advises; fails if it can advise nothing.
pub(crate) fn run(advise: &Advise) -> ExitCode {
    let measured = match measured(advise) {
        Ok(measured) => measured,
        Err(error) => {
            output::tell(error);
            return ExitCode::from(UNABLE);
        }
    };
    let meant = match meant(measured, advise) {
        Ok(meant) => meant,
        Err((error, code)) => {
            output::tell(error);
            return ExitCode::from(code);
        }
    };
    let goals = goals(advise);
    let advice: Vec<_> = meant
        .into_iter()
        .map(|seen| Advice {
            recommendations: outlast_sim::advise::advise(&seen.observed, &goals),
            seen,
        })
        .collect();
    let told = if advise.json {
        format!("{:#}\n", page::json(&advice))
    } else {
        page::text(&advice)
    };
    let mut all = advice.iter().flat_map(|advice| &advice.recommendations);
    let code = match all.any(|recommendation| recommendation.value().is_some()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    };
    output::end(&told, code)
}

/// What was measured of each upstream in the window that is meant.
fn measured(advise: &Advise) -> Result<Vec<Seen>, String> {
    let first = source::read(&advise.source)?;
    if let Some(file) = &advise.since {
        let before = source::read_file(file)?;
        return first.since(&before);
    }
    match advise.length {
        None => Ok(first.whole()),
        Some(length) => later(&advise.source, length)?.since(&first),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this thread has nothing else to do"
)]
fn later(source: &str, length: Duration) -> Result<Snapshot, String> {
    if !source::is_url(source) {
        return Err(format!(
            "--for asks a running gateway twice, and {source} is a file; use --since FILE with two \
             files"
        ));
    }
    std::thread::sleep(length);
    source::read(source)
}

/// The upstreams that were asked for.
fn meant(measured: Vec<Seen>, advise: &Advise) -> Result<Vec<Seen>, (String, u8)> {
    let names: Vec<_> = measured.iter().map(|seen| seen.upstream.clone()).collect();
    let Some(asked) = &advise.upstream else {
        let told = advise.capacity.or(advise.cold).or(advise.peak);
        if told.is_some() && names.len() > 1 {
            let error = format!(
                "a rate is that of one upstream; name it: {}",
                names.join(", ")
            );
            return Err((error, WRONG));
        }
        return Ok(measured);
    };
    let found: Vec<_> = measured
        .into_iter()
        .filter(|seen| seen.upstream == *asked)
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let likely = outlast_config::did_you_mean(asked, names.iter().map(String::as_str));
    let hint = likely.map_or(String::new(), |word| format!("did you mean `{word}`? "));
    let error = format!(
        "there is no upstream `{asked}`; {hint}the gateway has: {}",
        names.join(", ")
    );
    Err((error, FAILED))
}

fn goals(advise: &Advise) -> Goals {
    Goals {
        false_timeouts: advise.false_timeouts,
        refused: advise.refused,
        hedged: advise.hedged,
        failed: advise.failed,
        outage: advise.outage,
        false_trips: advise.false_trips,
        capacity: advise.capacity,
        cold: advise.cold,
        peak: advise.peak,
        deadline: advise.deadline,
    }
}
