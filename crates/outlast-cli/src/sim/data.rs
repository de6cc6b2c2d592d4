//! What came of a scenario, for machines.

use outlast_sim::scenario::Run;
use outlast_sim::statistics::{Mean, Share};
use serde_json::{Map, Value, json};

use super::rows::{paired, rows_of, saga_rows};
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
    let measures = rows_of(scenario)
        .iter()
        .map(|row| (row.key.to_owned(), mean(batch.mean(row.of))));
    let sagas = scenario.sagas.iter().enumerate();
    let sagas = sagas.map(|(number, beginning)| {
        let rows = saga_rows(&beginning.saga).into_iter();
        let rows = rows.map(|row| {
            let of_all = batch.mean(|run| (row.of)(&run.sagas[number]));
            (row.key, mean(of_all))
        });
        (beginning.saga.name.clone(), Value::Object(rows.collect()))
    });
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
        "sagas": sagas.collect::<Map<_, _>>(),
        "recovered": batch.recovered().as_ref().map(share),
        "promises": promises,
        "runs": batch.runs.iter().map(|run| self::run(run, outcome)).collect::<Vec<_>>(),
    })
}

fn run(run: &Run, outcome: &Outcome) -> Value {
    let services = outcome.trial.scenario().services.iter().zip(&run.peaks);
    let peaks = services.map(|(service, peak)| (service.name.clone(), json!(peak)));
    let scenario = outcome.trial.scenario();
    let measures = rows_of(scenario)
        .iter()
        .map(|row| (row.key.to_owned(), json!((row.of)(run))));
    let sagas = scenario.sagas.iter().zip(&run.sagas);
    let sagas = sagas.map(|(beginning, fared)| {
        let rows = saga_rows(&beginning.saga).into_iter();
        let rows = rows.map(|row| (row.key, json!((row.of)(fared))));
        (beginning.saga.name.clone(), Value::Object(rows.collect()))
    });
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
        "sagas": sagas.collect::<Map<_, _>>(),
        "runner": { "crashes": run.runner.crashes, "resumed": run.runner.resumed },
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
        let paired = paired(&one.batch, &other.batch, row.of)?;
        let value = json!({
            "difference": mean(Some(paired.difference)),
            "variance_saved": paired.variance_saved,
        });
        Some((row.key.to_owned(), value))
    };
    let rows = rows_of(one.trial.scenario());
    Value::Object(rows.iter().filter_map(difference).collect())
}
