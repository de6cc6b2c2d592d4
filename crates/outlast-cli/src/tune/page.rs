//! What was found, for people.

use std::fmt::Write;

use outlast_sim::statistics::{Paired, Share};
use outlast_sim::tune::{Score, Standing, pareto};

use super::{Candidate, Move, Tuned};
use crate::commands::Tune;
use crate::output;
use crate::sim::rows::Unit;

/// What would change, and the evidence.
pub(super) fn page(tune: &Tune, tuned: &Tuned) -> String {
    let parts = [
        head(tune, tuned),
        suggestion(tune, tuned),
        evidence(tuned),
        sensitivity(tuned),
        trade(tuned),
        replay(tune, tuned),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

fn head(tune: &Tune, tuned: &Tuned) -> String {
    let candidates = &tuned.candidates;
    let (scenario, policy) = (tune.scenario.display(), tuned.policy.display());
    let mut page = format!(
        "{scenario} with {policy}: {} settings, {} candidates, {} runs\n",
        tuned.settings.len(),
        candidates.all.len(),
        tuned.runs
    );
    let rounds = tuned.found.rounds.iter().map(|round| {
        let runs = if round.runs == 1 { "run" } else { "runs" };
        format!("{} with {} {runs} each", round.ranked.len(), round.runs)
    });
    let rounds: Vec<_> = rounds.collect();
    let seed = tuned.plan.search.seed;
    line(
        &mut page,
        format_args!("searched: {}, from seed {seed}", rounds.join(", ")),
    );
    let (last, runs) = (tuned.found.finalists.len(), tuned.plan.search.fresh);
    let seed = tuned.plan.search.fresh_seed();
    line(
        &mut page,
        format_args!("compared: {last} with {runs} runs each, from seed {seed}"),
    );
    if candidates.alike > 0 {
        line(
            &mut page,
            format_args!("left out: {} like another one", candidates.alike),
        );
    }
    if let Some(why) = &candidates.why {
        let first = why.lines().next().unwrap_or_default();
        line(
            &mut page,
            format_args!(
                "refused: {} that could not work, the first one with {first}",
                candidates.refused
            ),
        );
    }
    page
}

/// What is tried, and what is suggested.
fn suggestion(tune: &Tune, tuned: &Tuned) -> String {
    let mut rows = vec![["setting", "now", "tried", "suggested"].map(str::to_owned)];
    for (setting, value) in tuned.settings.iter().zip(&tuned.best.values) {
        rows.push([
            format!("{} {}", setting.upstream, setting.name),
            setting.now(),
            setting.tried(),
            value.clone().unwrap_or_else(|| "as it is".to_owned()),
        ]);
    }
    let mut page = table(&rows);
    let is_same = tuned.changes().is_empty();
    match &tune.out {
        _ if is_same && tune.out.is_none() => {
            page.push_str("\nnothing that was tried does better than what there is\n");
        }
        Some(out) => line(&mut page, format_args!("\nwritten to {}", out.display())),
        None => page.push_str("\nnothing is written without --out FILE\n"),
    }
    page
}

/// Before and after, on seeds that took no part in any choice.
fn evidence(tuned: &Tuned) -> String {
    let [before, after] = &tuned.scores;
    let seeds = seeds(tuned, before.len());
    let mut page = format!(
        "on {} worlds that took part in no choice ({seeds})\n\n",
        before.len()
    );
    let mut rows = vec![["", "now", "suggested", "difference"].map(str::to_owned)];
    for measure in &MEASURES {
        rows.push([
            measure.name.to_owned(),
            measure.mean(before),
            measure.mean(after),
            measure.difference(before, after),
        ]);
    }
    let share = |scores: &[Score], is: &dyn Fn(&Score) -> bool| {
        let yes = scores.iter().filter(|score| is(score)).count() as u32;
        let share = Share::new(yes, scores.len() as u32);
        format!("{} of {}", share.yes, share.of)
    };
    if tuned.scenario.over().is_some() {
        let recovered = |score: &Score| score.recovered;
        rows.push([
            "recovered".to_owned(),
            share(before, &recovered),
            share(after, &recovered),
            String::new(),
        ]);
    }
    for (number, promise) in tuned.scenario.promises.iter().enumerate() {
        let kept = |score: &Score| score.kept[number];
        let yes = after.iter().filter(|score| kept(score)).count() as f64;
        let is_kept = yes / after.len() as f64 >= promise.runs;
        rows.push([
            promise.text.clone(),
            share(before, &kept),
            share(after, &kept),
            if is_kept { "kept" } else { "BROKEN" }.to_owned(),
        ]);
    }
    page.push_str(&table(&rows));
    if !tuned.after.is_fine(&tuned.needs) {
        page.push_str(
            "\nit is the best of what was tried, and does not hold: more capacity, another policy \
             (--add), a wider --range or a larger --budget may\n",
        );
    }
    page
}

/// What a fifth less and a fifth more do.
fn sensitivity(tuned: &Tuned) -> String {
    let runs = tuned.plan.moved as usize;
    if tuned.moves.is_empty() {
        return "sensitivities need more runs than --budget left for them\n".to_owned();
    }
    let suggested = &tuned.scores[1][..runs.min(tuned.scores[1].len())];
    let mut page = format!(
        "if one setting of the suggestion is a fifth lower or higher ({})\n\n",
        seeds(tuned, runs)
    );
    let titles = ["setting", "value", "goodput", "attempts", "p99", "promises"];
    let mut rows = vec![titles.map(str::to_owned)];
    for moved in &tuned.moves {
        let setting = &tuned.settings[moved.setting];
        let differences = MEASURES.each_ref().map(|measure| match &moved.scores {
            Some(scores) => measure.difference(suggested, scores),
            None => String::new(),
        });
        let [goodput, attempts, p99] = differences;
        let name = format!("{} {}", setting.upstream, setting.name);
        rows.push([
            name,
            moved.value.clone(),
            goodput,
            attempts,
            p99,
            verdict(tuned, moved),
        ]);
    }
    page.push_str(&table(&rows));
    page
}

/// Whether it holds with a setting that is moved.
pub(super) fn verdict(tuned: &Tuned, moved: &Move) -> String {
    let Some(scores) = &moved.scores else {
        return "cannot work".to_owned();
    };
    let is_fine = Standing::of(scores, &tuned.needs).is_fine(&tuned.needs);
    if is_fine { "kept" } else { "BROKEN" }.to_owned()
}

/// Goodput has its price: what no candidate has more of for fewer attempts.
fn trade(tuned: &Tuned) -> String {
    let first = &tuned.found.rounds[0];
    let mut page = format!(
        "goodput against attempts: of all {} in the first round, those that none beats in both\n\n",
        first.ranked.len()
    );
    let standings: Vec<_> = first.ranked.iter().map(|(_, standing)| *standing).collect();
    let mut rows = vec![["attempts", "goodput", "promises", "settings"].map(str::to_owned)];
    for at in pareto(&standings).into_iter().take(MOST_ROWS) {
        let (candidate, standing) = &first.ranked[at];
        rows.push([
            Unit::Ratio.show(standing.attempts),
            Unit::Share.show(standing.goodput),
            if standing.is_fine(&tuned.needs) {
                "kept"
            } else {
                "BROKEN"
            }
            .to_owned(),
            String::new(),
        ]);
        let [first, rest @ ..] = &words(tuned, &tuned.candidates.all[*candidate])[..] else {
            continue;
        };
        let last = rows.last_mut().expect("it was pushed just now");
        last[3].clone_from(first);
        for more in rest {
            let nothing = String::new;
            rows.push([nothing(), nothing(), nothing(), more.clone()]);
        }
    }
    page.push_str(&table(&rows));
    page
}

/// What differs from what there is: a line for each upstream, or more if they get long.
fn words(tuned: &Tuned, candidate: &Candidate) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut upstream = "";
    for (setting, value) in tuned.settings.iter().zip(&candidate.values) {
        let Some(value) = value else { continue };
        let word = format!("{} {value}", setting.name);
        let last = lines.last_mut().filter(|_| upstream == setting.upstream);
        match last {
            Some(last) if last.len() + word.len() < LONGEST => {
                last.push_str(", ");
                last.push_str(&word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(format!("{}: {word}", setting.upstream)),
        }
        upstream = &setting.upstream;
    }
    if lines.is_empty() {
        lines.push("as it is".to_owned());
    }
    lines
}

fn replay(tune: &Tune, tuned: &Tuned) -> String {
    match &tune.out {
        Some(out) => format!(
            "again: outlast sim {} --policy {} --vs {} --seed {} --runs {}\n",
            output::word(&tune.scenario),
            output::word(out),
            output::word(&tuned.policy),
            tuned.plan.search.evidence_seed(),
            tuned.scores[0].len()
        ),
        None => String::new(),
    }
}

fn seeds(tuned: &Tuned, runs: usize) -> String {
    let first = tuned.plan.search.evidence_seed();
    format!("seeds {first} to {}", first.wrapping_add(runs as u64 - 1))
}

/// A measure of a run.
pub(super) struct Measure {
    name: &'static str,
    pub(super) key: &'static str,
    unit: Unit,
    pub(super) of: fn(&Score) -> f64,
}

pub(super) const MEASURES: [Measure; 3] = [
    Measure {
        name: "goodput",
        key: "goodput",
        unit: Unit::Share,
        of: |score| score.goodput,
    },
    Measure {
        name: "attempts a call",
        key: "attempts_per_call",
        unit: Unit::Ratio,
        of: |score| score.attempts,
    },
    Measure {
        name: "latency p99",
        key: "latency_p99_seconds",
        unit: Unit::Seconds,
        of: |score| score.p99,
    },
];

impl Measure {
    fn mean(&self, scores: &[Score]) -> String {
        let sum: f64 = scores.iter().map(self.of).sum();
        self.unit.show(sum / scores.len() as f64)
    }

    /// Over runs in which both have one.
    pub(super) fn paired(&self, one: &[Score], other: &[Score]) -> Option<Paired> {
        let pairs = one
            .iter()
            .zip(other)
            .map(|(one, other)| ((self.of)(one), (self.of)(other)));
        let both = pairs.filter(|(one, other)| one.is_finite() && other.is_finite());
        let (one, other): (Vec<f64>, Vec<f64>) = both.unzip();
        Paired::of(&one, &other)
    }

    fn difference(&self, one: &[Score], other: &[Score]) -> String {
        let Some(paired) = self.paired(one, other) else {
            return "-".to_owned();
        };
        let mean = paired.difference;
        let text = self.unit.show(mean.mean);
        let is_nothing = !text.contains(|digit| matches!(digit, '1'..='9'));
        let text = match mean.mean > 0.0 {
            _ if is_nothing => text.trim_start_matches('-').to_owned(),
            true => format!("+{text}"),
            false => text,
        };
        let half = self.unit.show_half(mean.half_width);
        format!("{text} {half}").trim_end().to_owned()
    }
}

/// Rows below each other, the first one of which names columns.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut page = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let cells: Vec<_> = cells.collect();
        line(&mut page, format_args!("  {}", cells.join("  ").trim_end()));
    }
    page
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a string takes everything");
}

/// Longer lists of settings go on in the next line.
const LONGEST: usize = 60;
/// More points show no more of the price.
const MOST_ROWS: usize = 8;
