//! What was found, for machines.

use outlast_sim::statistics::Mean;
use outlast_sim::tune::{Score, Standing, pareto};
use serde_json::{Map, Value, json};

use super::page::MEASURES;
use super::{Candidate, Tuned};
use crate::commands::Tune;

pub(super) fn document(tune: &Tune, tuned: &Tuned) -> Value {
    let [before, after] = &tuned.scores;
    let search = &tuned.plan.search;
    let settings = tuned.settings.iter().zip(&tuned.best.values);
    let settings = settings.map(|(setting, value)| {
        json!({
            "upstream": setting.upstream,
            "setting": setting.name,
            "written": setting.written,
            "holds": setting.holds,
            "tried": { "least": setting.at(0.0), "most": setting.at(1.0) },
            "suggested": value,
        })
    });
    json!({
        "scenario": tune.scenario.display().to_string(),
        "policy": tuned.policy.display().to_string(),
        "kept": tuned.after.is_fine(&tuned.needs),
        "seed": search.seed,
        "fresh_seed": search.fresh_seed(),
        "evidence_seed": search.evidence_seed(),
        "runs": tuned.runs,
        "candidates": tuned.candidates.all.len(),
        "refused": tuned.candidates.refused,
        "alike": tuned.candidates.alike,
        "settings": settings.collect::<Vec<_>>(),
        "now": standing(tuned, &tuned.before, before),
        "suggested": standing(tuned, &tuned.after, after),
        "differences": differences(before, after),
        "sensitivity": sensitivity(tuned),
        "rounds": rounds(tuned),
        "pareto": pareto_set(tuned),
        "text": tuned.best.text,
    })
}

fn standing(tuned: &Tuned, standing: &Standing, scores: &[Score]) -> Value {
    let promises = tuned.scenario.promises.iter().enumerate();
    let promises = promises.map(|(number, promise)| {
        let kept = scores.iter().filter(|score| score.kept[number]).count();
        json!({ "promise": promise.text, "kept": kept, "of": scores.len(), "needs": promise.runs })
    });
    let mut value = measures(standing);
    value["promises"] = promises.collect();
    value
}

fn measures(standing: &Standing) -> Value {
    json!({
        "runs": standing.runs,
        "missing": standing.missing,
        "recovered": standing.recovered,
        "goodput": standing.goodput,
        "attempts_per_call": standing.attempts,
        "latency_p99_seconds": standing.p99,
    })
}

fn differences(one: &[Score], other: &[Score]) -> Value {
    let difference = |measure: &super::page::Measure| {
        let paired = measure.paired(one, other)?;
        let Mean {
            mean, half_width, ..
        } = paired.difference;
        // Of one run, the width of the interval is not known.
        let half_width = half_width.is_finite().then_some(half_width);
        let value = json!({
            "mean": mean,
            "half_width": half_width,
            "variance_saved": paired.variance_saved,
        });
        Some((measure.key.to_owned(), value))
    };
    Value::Object(MEASURES.iter().filter_map(difference).collect())
}

fn sensitivity(tuned: &Tuned) -> Value {
    let moves = tuned.moves.iter().map(|moved| {
        let setting = &tuned.settings[moved.setting];
        let mut value = json!({
            "upstream": setting.upstream,
            "setting": setting.name,
            "value": moved.value,
        });
        if let Some(scores) = &moved.scores {
            let suggested = &tuned.scores[1][..scores.len()];
            value["differences"] = differences(suggested, scores);
            value["kept"] = json!(Standing::of(scores, &tuned.needs).is_fine(&tuned.needs));
        }
        value
    });
    moves.collect()
}

fn rounds(tuned: &Tuned) -> Value {
    let rounds = tuned.found.rounds.iter().map(|round| {
        let ranked = round.ranked.iter().map(|(candidate, standing)| {
            let mut value = measures(standing);
            value["candidate"] = json!(candidate);
            value["settings"] = changed(tuned, &tuned.candidates.all[*candidate]);
            value
        });
        json!({ "runs": round.runs, "ranked": ranked.collect::<Vec<_>>() })
    });
    rounds.collect()
}

/// By their numbers, with fewest attempts first.
fn pareto_set(tuned: &Tuned) -> Value {
    let first = &tuned.found.rounds[0].ranked;
    let standings: Vec<_> = first.iter().map(|(_, standing)| *standing).collect();
    pareto(&standings)
        .into_iter()
        .map(|at| json!(first[at].0))
        .collect()
}

fn changed(tuned: &Tuned, candidate: &Candidate) -> Value {
    let pairs = tuned.settings.iter().zip(&candidate.values);
    let changed = pairs.filter_map(|(setting, value)| {
        Some((
            format!("{}.{}", setting.upstream, setting.name),
            json!(value.as_ref()?),
        ))
    });
    Value::Object(changed.collect::<Map<_, _>>())
}
