//! What came of a scenario, for people: as text, and as a part of a page.

use std::fmt::Write;
use std::time::Duration;

use outlast_config::scenario::Measure;
use outlast_sim::scenario::Run;
use outlast_sim::statistics::{Mean, Paired};

use super::rows::{SAGA_ROWS, Unit, paired, rows_of, saga_rows};
use super::{Outcome, Sim};
use crate::output;
use crate::picture::escaped;

/// A table for each policy file, and what differs.
pub(super) fn page(sim: &Sim, results: &[Outcome]) -> String {
    let mut page = String::new();
    for outcome in results {
        add(&mut page, format_args!("{}\n\n", title(sim, outcome)));
        let rows = measures(outcome);
        let width = rows
            .iter()
            .map(|row| row[0].chars().count())
            .max()
            .unwrap_or(0);
        for [name, value, half, range] in rows {
            let line = format!("  {name:<width$}  {value:>10}  {half:<12}  {range}");
            add(&mut page, format_args!("{}\n", line.trim_end()));
        }
        add(&mut page, format_args!("\n"));
        for [verdict, text, share, measured] in promises(outcome) {
            add(&mut page, format_args!("  {verdict:<6}  {text}\n"));
            add(&mut page, format_args!("          {share}; {measured}\n"));
        }
        add(&mut page, format_args!("\n  {}\n\n", trace(sim, outcome)));
    }
    if let [one, other] = results {
        add(
            &mut page,
            format_args!("{}\n\n", difference_title(one, other)),
        );
        for [name, difference, half, saved] in differences(one, other) {
            let line = format!("  {name:<28}  {difference:>11}  {half:<12}  {saved}");
            add(&mut page, format_args!("{}\n", line.trim_end()));
        }
        add(&mut page, format_args!("\n{}\n\n", verdict(one, other)));
    }
    page
}

/// The same as HTML.
pub(super) fn html(sim: &Sim, results: &[Outcome]) -> String {
    let mut page = String::new();
    for outcome in results {
        add(
            &mut page,
            format_args!("<h2>{}</h2>\n", escaped(&title(sim, outcome))),
        );
        let head = ["measure", "mean", "95 % interval", "runs"].map(str::to_owned);
        table(&mut page, head, measures(outcome));
        let head = ["promise", "", "kept in", "measured"].map(str::to_owned);
        table(&mut page, head, promises(outcome));
        add(
            &mut page,
            format_args!("<p>{}</p>\n", escaped(&trace(sim, outcome))),
        );
    }
    if let [one, other] = results {
        add(
            &mut page,
            format_args!("<h2>{}</h2>\n", escaped(&difference_title(one, other))),
        );
        let head = [
            "measure",
            "difference",
            "95 % interval",
            "common random numbers",
        ];
        table(&mut page, head.map(str::to_owned), differences(one, other));
        add(
            &mut page,
            format_args!("<p>{}</p>\n", escaped(&verdict(one, other))),
        );
    }
    page
}

fn table(page: &mut String, head: [String; 4], rows: Vec<[String; 4]>) {
    page.push_str("<table>\n");
    for (cell, row) in std::iter::once(("th", head)).chain(rows.into_iter().map(|row| ("td", row)))
    {
        page.push_str("<tr>");
        for text in row {
            add(page, format_args!("<{cell}>{}</{cell}>", escaped(&text)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes everything");
}

fn title(sim: &Sim, outcome: &Outcome) -> String {
    let (scenario, runs) = (outcome.trial.scenario(), outcome.batch.runs.len());
    let seeds = match runs {
        1 => format!("seed {}", outcome.seed),
        many => format!("{many} runs from seed {}", outcome.seed),
    };
    let counted = match scenario.warm_up {
        Duration::ZERO if outcome.settles => ", counted from the start on".to_owned(),
        Duration::ZERO => String::new(),
        warm_up => format!(", counted from {} on", output::time(warm_up)),
    };
    format!(
        "{} with {}: {seeds}, {} each{counted}",
        sim.scenario.display(),
        outcome.policy.display(),
        output::time(scenario.lasts)
    )
}

/// Name, mean, half of the interval, range.
fn measures(outcome: &Outcome) -> Vec<[String; 4]> {
    let batch = &outcome.batch;
    let mut rows = Vec::new();
    for row in rows_of(outcome.trial.scenario()) {
        let cells = batch.mean(row.of).map(|mean| {
            let half = row.unit.show_half(mean.half_width);
            [row.unit.show(mean.mean), half, range_of(row.unit, &mean)]
        });
        let [value, half, range] = cells.unwrap_or_else(|| ["-".into(), "".into(), "".into()]);
        rows.push([row.name.to_owned(), value, half, range]);
    }
    rows.extend(of_clients(outcome));
    rows.extend(of_sagas(outcome));
    for (number, service) in outcome.trial.scenario().services.iter().enumerate() {
        let peak = |run: &Run| run.peaks[number] as f64;
        if let Some(mean) = batch.mean(peak) {
            let unit = Unit::Count;
            let (half, range) = (unit.show_half(mean.half_width), range_of(unit, &mean));
            rows.push([
                format!("most at {}", service.name),
                unit.show(mean.mean),
                half,
                range,
            ]);
        }
    }
    rows.extend(recovery(outcome));
    rows
}

/// Goodput and p99 of each client, if there are several.
fn of_clients(outcome: &Outcome) -> Vec<[String; 4]> {
    let clients = &outcome.trial.scenario().clients;
    let mut rows = Vec::new();
    if clients.len() < 2 {
        return rows;
    }
    for (number, client) in clients.iter().enumerate() {
        let name = &client.name;
        let goodput = outcome.batch.mean(|run| run.clients[number].goodput);
        let p99 = outcome.batch.mean(|run| run.clients[number].p99);
        for (what, unit, mean) in [
            ("goodput", Unit::Share, goodput),
            ("latency p99", Unit::Seconds, p99),
        ] {
            let cells = mean.map(|mean| {
                let half = unit.show_half(mean.half_width);
                [unit.show(mean.mean), half, range_of(unit, &mean)]
            });
            let [value, half, range] = cells.unwrap_or_else(|| ["-".into(), "".into(), "".into()]);
            rows.push([format!("{what} of {name}"), value, half, range]);
        }
    }
    rows
}

/// What became of sagas, and of their runner.
fn of_sagas(outcome: &Outcome) -> Vec<[String; 4]> {
    let mut rows = Vec::new();
    let mut add = |name: String, unit: Unit, mean: Option<Mean>| {
        let cells = mean.map(|mean| {
            let half = unit.show_half(mean.half_width);
            [unit.show(mean.mean), half, range_of(unit, &mean)]
        });
        let [value, half, range] = cells.unwrap_or_else(|| ["-".into(), "".into(), "".into()]);
        rows.push([name, value, half, range]);
    };
    let sagas = &outcome.trial.scenario().sagas;
    for (number, beginning) in sagas.iter().enumerate() {
        for row in saga_rows(&beginning.saga) {
            let mean = outcome.batch.mean(|run| (row.of)(&run.sagas[number]));
            add(row.name, row.unit, mean);
        }
    }
    if !sagas.is_empty() {
        let crashes = outcome.batch.mean(|run| run.runner.crashes as f64);
        add("crashes of the runner".to_owned(), Unit::Count, crashes);
        let resumed = outcome.batch.mean(|run| run.runner.resumed as f64);
        add("went on after a crash".to_owned(), Unit::Count, resumed);
    }
    rows
}

/// From the least to the most, if there are several.
fn range_of(unit: Unit, mean: &Mean) -> String {
    if mean.half_width.is_finite() {
        unit.show_range(mean)
    } else {
        String::new()
    }
}

/// Never a mean over runs of which some do not recover.
fn recovery(outcome: &Outcome) -> Vec<[String; 4]> {
    let Some(share) = outcome.batch.recovered() else {
        return Vec::new();
    };
    let interval = format!(
        "{:.0} to {:.0} % of all",
        share.low * 100.0,
        share.high * 100.0
    );
    let mut rows = vec![[
        "recovered".to_owned(),
        format!("{} of {}", share.yes, share.of),
        String::new(),
        if share.of == 1 {
            String::new()
        } else {
            interval
        },
    ]];
    let recovered =
        |of: fn(&Run) -> Option<f64>| outcome.batch.mean(move |run| of(run).unwrap_or(f64::NAN));
    let well = recovered(|run| {
        let recovery = run.recovery.filter(|recovery| recovery.recovered)?;
        Some(recovery.well.as_secs_f64())
    });
    let quiet = recovered(|run| {
        let recovery = run.recovery.filter(|recovery| recovery.recovered)?;
        Some(recovery.quiet.as_secs_f64())
    });
    for (name, mean) in [
        ("until calls do well", well),
        ("until old calls have ended", quiet),
    ] {
        if let Some(mean) = mean {
            let unit = Unit::Seconds;
            let many = mean.half_width.is_finite();
            let median = if many { " median" } else { "" };
            let median = format!("{}{median}", unit.show(mean.median));
            rows.push([
                name.to_owned(),
                median,
                String::new(),
                range_of(unit, &mean),
            ]);
        }
    }
    rows
}

/// Verdict, promise, in how many runs, what was measured.
fn promises(outcome: &Outcome) -> Vec<[String; 4]> {
    let promises = &outcome.trial.scenario().promises;
    let row = |(promise, kept): (&outlast_config::scenario::Promise, &super::Kept)| {
        let verdict = if kept.kept { "kept" } else { "BROKEN" };
        let unit = Unit::of(promise.measure);
        let share = &kept.share;
        let runs = match share.of {
            1 => "one run".to_owned(),
            of => format!(
                "{} of {of} runs ({:.0} to {:.0} % of all)",
                share.yes,
                share.low * 100.0,
                share.high * 100.0
            ),
        };
        let measured = match &kept.measured {
            Some(mean) if share.of == 1 => unit.show(mean.mean),
            // As in the table above: of those that recovered.
            Some(mean) if promise.measure == Measure::Recovery => format!(
                "{} median ({})",
                unit.show(mean.median),
                unit.show_range(mean)
            ),
            Some(mean) => format!("{} ({})", unit.show(mean.mean), unit.show_range(mean)),
            None => "nothing to measure, or it never came".to_owned(),
        };
        [verdict.to_owned(), promise.text.clone(), runs, measured]
    };
    promises.iter().zip(&outcome.kept).map(row).collect()
}

/// What equal runs have in common, and the command that replays one of several.
fn trace(sim: &Sim, outcome: &Outcome) -> String {
    let events: u64 = outcome.batch.runs.iter().map(|run| run.events).sum();
    let hash = outcome.batch.hash();
    let runs = match &outcome.batch.runs[..] {
        [run] => return format!("trace {hash:016x} of seed {}, {events} events", run.seed),
        runs => runs,
    };
    // The run that people want to look at: a broken promise, or the first one.
    let promises = &outcome.trial.scenario().promises;
    let breaks = |run: &&Run| {
        let mut numbered = promises.iter().enumerate();
        numbered.any(|(number, promise)| !run.keeps(number, promise))
    };
    let run = runs.iter().find(breaks).unwrap_or(&runs[0]);
    let is_named = sim.policy.is_none() && sim.vs.as_ref() != Some(&outcome.policy);
    let policy = match is_named {
        true => String::new(),
        false => format!(" --policy {}", output::word(&outcome.policy)),
    };
    format!(
        "trace {hash:016x} of all {} runs, {events} events\n  \
         trace {:016x} of seed {}: outlast sim {}{policy} --seed {} --runs 1",
        runs.len(),
        run.hash,
        run.seed,
        output::word(&sim.scenario),
        run.seed
    )
}

fn difference_title(one: &Outcome, other: &Outcome) -> String {
    format!(
        "{} less {}, in the same worlds",
        other.policy.display(),
        one.policy.display()
    )
}

/// Who keeps how much, in a line.
fn verdict(one: &Outcome, other: &Outcome) -> String {
    if one.batch.hash() == other.batch.hash() {
        return "both files do the same here, event by event".to_owned();
    }
    let kept = |outcome: &Outcome| outcome.kept.iter().filter(|kept| kept.kept).count();
    format!(
        "{} keeps {} of {} promises, {} {} of {}",
        one.policy.display(),
        kept(one),
        one.kept.len(),
        other.policy.display(),
        kept(other),
        other.kept.len()
    )
}

fn difference(name: &str, unit: Unit, paired: &Paired) -> [String; 4] {
    let mean = paired.difference;
    let sign = if mean.mean > 0.0 { "+" } else { "" };
    let saved = if paired.variance_saved > 0.005 {
        format!(
            "{:.0} % of the variance saved",
            paired.variance_saved * 100.0
        )
    } else {
        String::new()
    };
    let value = format!("{sign}{}", unit.show(mean.mean));
    [
        name.to_owned(),
        value,
        unit.show_half(mean.half_width),
        saved,
    ]
}

/// Name, difference, half of the interval, how much of the noise common random numbers took away.
fn differences(one: &Outcome, other: &Outcome) -> Vec<[String; 4]> {
    let row = |row: &super::rows::Row| {
        let paired = paired(&one.batch, &other.batch, row.of)?;
        Some(difference(row.name, row.unit, &paired))
    };
    let mut rows: Vec<_> = rows_of(one.trial.scenario())
        .iter()
        .filter_map(row)
        .collect();
    rows.extend(saga_differences(one, other));
    rows
}

/// Of sagas that both have.
fn saga_differences(one: &Outcome, other: &Outcome) -> Vec<[String; 4]> {
    let mut rows = Vec::new();
    let sagas = one.trial.scenario().sagas.iter().enumerate();
    for (number, beginning) in sagas {
        // Steps may be others: what is told of all sagas is compared.
        for row in saga_rows(&beginning.saga).into_iter().take(SAGA_ROWS) {
            let paired = paired(&one.batch, &other.batch, |run| (row.of)(&run.sagas[number]));
            rows.extend(paired.map(|paired| difference(&row.name, row.unit, &paired)));
        }
    }
    rows
}
