//! What came of a scenario, for machines.

use outlast_sim::scenario::Run;
use outlast_sim::statistics::{Mean, Share};
use serde_json::{Map, Value, json};

use super::rows::ROWS;
use super::{Outcome, Sim};

pub(super) fn document(sim: &Sim, results: &[Outcome]) -> Value {
    let mut document = json!({
        "scenario": sim.scenario.display().to_string(),
        "kept": results[0].kept.iter().all(|kept| kept.kept),
        "policies": results.iter().map(policy).collect::<Vec<_>>(),
    });
    if let [one, other] = results {
        document["differences"] = differences(one, other);
    }
    document
}

fn policy(outcome: &Outcome) -> Value {
    let (batch, scenario) = (&outcome.batch, outcome.trial.scenario());
    let measures = ROWS
        .iter()
        .map(|row| (row.key.to_owned(), mean(batch.mean(row.of))));
    let promises = scenario.promises.iter().zip(&outcome.kept);
    let promises: Vec<_> = promises
        .map(|(promise, kept)| {
            json!({
                "promise": promise.text,
                "kept": kept.kept,
                "runs": share(&kept.share),
                "measured": mean(kept.measured),
            })
        })
        .collect();
    json!({
        "policy": outcome.policy.display().to_string(),
        "seed": outcome.seed,
        "trace": format!("{:016x}", batch.hash()),
        "measures": measures.collect::<Map<_, _>>(),
        "recovered": batch.recovered().as_ref().map(share),
        "promises": promises,
        "runs": batch.runs.iter().map(|run| self::run(run, outcome)).collect::<Vec<_>>(),
    })
}

fn run(run: &Run, outcome: &Outcome) -> Value {
    let services = outcome.trial.scenario().services.iter().zip(&run.peaks);
    let peaks = services.map(|(service, peak)| (service.name.clone(), json!(peak)));
    let measures = ROWS
        .iter()
        .map(|row| (row.key.to_owned(), json!((row.of)(run))));
    let clients = outcome.trial.scenario().clients.iter().zip(&run.clients);
    let clients = clients.map(|(client, fared)| {
        let fared = json!({ "goodput": fared.goodput, "latency_p99_seconds": fared.p99 });
        (client.name.clone(), fared)
    });
    json!({
        "seed": run.seed,
        "trace": format!("{:016x}", run.hash),
        "events": run.events,
        "calls": run.calls,
        "measures": measures.collect::<Map<_, _>>(),
        "clients": clients.collect::<Map<_, _>>(),
        "peaks": peaks.collect::<Map<_, _>>(),
        "recovery": run.recovery.map(|recovery| json!({
            "recovered": recovery.recovered,
            "well_seconds": recovery.well.as_secs_f64(),
            "quiet_seconds": recovery.quiet.as_secs_f64(),
        })),
    })
}

/// Of one run, the width of the interval is not known.
fn mean(mean: Option<Mean>) -> Value {
    mean.map_or(Value::Null, |mean| {
        json!({
            "mean": mean.mean,
            "half_width": mean.half_width.is_finite().then_some(mean.half_width),
            "least": mean.least,
            "median": mean.median,
            "most": mean.most,
        })
    })
}

fn share(share: &Share) -> Value {
    json!({ "yes": share.yes, "of": share.of, "low": share.low, "high": share.high })
}

fn differences(one: &Outcome, other: &Outcome) -> Value {
    let difference = |row: &super::rows::Row| {
        let paired = row.paired(&one.batch, &other.batch)?;
        let value = json!({
            "difference": mean(Some(paired.difference)),
            "variance_saved": paired.variance_saved,
        });
        Some((row.key.to_owned(), value))
    };
    Value::Object(ROWS.iter().filter_map(difference).collect())
}
