//! Units in series, in parallel, in a quorum, and one that takes over.

use std::time::Duration;

use outlast_sim::slo::{self, Availability, Quorum, Share, SloError};
use serde_json::json;

use crate::picture::{Panel, Picture, Series};
use crate::slo::questions::Failover;
use crate::slo::texts::{percent, span};
use crate::slo::{Answer, row};

pub(crate) fn series(units: &[Availability]) -> Answer {
    let all = slo::series(units);
    let so_far =
        (0..=units.len()).map(|count| (count as f64, minutes(slo::series(&units[..count]))));
    Answer {
        head: Vec::new(),
        rows: rows("all of them", all),
        notes: Vec::new(),
        json: json!({
            "availability": all.as_f64(),
            "downtime_seconds": all.downtime(MONTH).as_secs_f64(),
        }),
        picture: Picture {
            title: format!("{} units in series: {}", units.len(), percent(all.as_f64())),
            subtitle: "Each unit that is needed adds its downtime".to_owned(),
            panels: vec![downtime(
                "units, in the order given",
                vec![line("", so_far.collect(), 0, false)],
            )],
        },
    }
}

pub(crate) fn parallel(units: &[Availability], beta: Share) -> Answer {
    let title = format!("One of {} units", units.len());
    let best = units.iter().map(|unit| unit.missing()).fold(1.0, f64::min);
    let best = units.iter().find(|unit| unit.missing() == best);
    redundant(title, best.copied(), beta, |beta| {
        slo::parallel(units, beta)
    })
}

pub(crate) fn k_of_n(
    needed: u32,
    units: u32,
    unit: Availability,
    beta: Share,
) -> Result<Answer, SloError> {
    let quorum = Quorum::new(needed, units)?;
    let title = format!("{needed} of {units} units");
    Ok(redundant(title, Some(unit), beta, |beta| {
        slo::k_of_n(quorum, unit, beta)
    }))
}

/// What depends on how much units have in common.
fn redundant(
    title: String,
    best: Option<Availability>,
    beta: Share,
    together: impl Fn(Share) -> Availability,
) -> Answer {
    let (common, independent) = (together(beta), together(Share::NONE));
    let mut rows = rows(&format!("with beta {}", percent(beta.as_f64())), common);
    rows.extend(self::rows("if independent", independent));
    let most = if beta.as_f64() <= 0.15 { 0.2 } else { 1.0 };
    let at = |step: u32| most * f64::from(step) / 100.0;
    let shares = (0..=100).filter_map(|step| Share::new(at(step)).ok());
    let points = shares.map(|beta| (beta.as_f64() * 100.0, minutes(together(beta))));
    let mut lines = vec![line("together", points.collect(), 0, false)];
    if let Some(best) = best {
        let level = minutes(best);
        rows.extend(self::rows("the best unit alone", best));
        let level = vec![(0.0, level), (most * 100.0, level)];
        lines.push(line("the best unit alone", level, 1, true));
    }
    let chosen = vec![(beta.as_f64() * 100.0, minutes(common))];
    lines.push(line("the beta given", chosen, 6, false));
    Answer {
        head: Vec::new(),
        rows,
        notes: vec![
            "beta is the share of a unit's unavailability that hits all of them at once. Behind one \
             retry layer, DNS or release it is 10% or more; ask outages of the past."
                .to_owned(),
        ],
        json: json!({
            "beta": beta.as_f64(),
            "availability": common.as_f64(),
            "downtime_seconds": common.downtime(MONTH).as_secs_f64(),
            "independent_availability": independent.as_f64(),
        }),
        picture: Picture {
            title: format!("{title}: {}", percent(common.as_f64())),
            subtitle: "What units have in common limits what redundancy gives".to_owned(),
            panels: vec![downtime("beta, share of unavailability with a common cause, %", lines)],
        },
    }
}

pub(crate) fn failover(asked: &Failover) -> Result<Answer, SloError> {
    let failover = slo::Failover {
        detect: asked.detect,
        switch: asked.switch,
        mtbf: asked.mtbf,
        coverage: asked.coverage,
    };
    let (first, second) = (asked.first, asked.second);
    let both = failover.availability(first, second)?;
    let gain = first.missing() - both.missing();
    let (outage, even) = (failover.outage(first), failover.break_even(second));
    let mut rows = rows("with failover", both);
    rows.extend(self::rows("the first alone", first));
    let saved = MONTH.mul_f64(gain.abs());
    let is_worth = gain >= 0.0;
    let gain_label = if is_worth {
        "saved in 30 days"
    } else {
        "lost in 30 days"
    };
    rows.push(row(gain_label, span(saved)));
    rows.push(row("outages last", span(outage)));
    let pays = match even {
        Duration::MAX => "never".to_owned(),
        even => span(even),
    };
    rows.push(row("it pays if they last", pays));
    let mut notes = Vec::new();
    if !is_worth {
        notes.push(
            "warning: failover costs more than it saves, because outages are over sooner than it \
             takes. Switch faster, or only after longer failures, and retry meanwhile."
                .to_owned(),
        );
    }
    let takes = failover.detect + failover.switch;
    let most = (outage.as_secs_f64() * 1.5)
        .max(takes.as_secs_f64() * 1.5)
        .max(1.0);
    let with = |seconds: f64| {
        let taking = slo::Failover {
            detect: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4),
            switch: Duration::ZERO,
            ..failover
        };
        taking.availability(first, second)
    };
    let curve: Result<Vec<_>, _> = (0..=100)
        .map(|step| most * f64::from(step) / 100.0)
        .map(|seconds| Ok((seconds, minutes(with(seconds)?))))
        .collect();
    let alone = vec![(0.0, minutes(first)), (most, minutes(first))];
    Ok(Answer {
        head: Vec::new(),
        rows,
        notes,
        json: json!({
            "availability": both.as_f64(),
            "downtime_seconds": both.downtime(MONTH).as_secs_f64(),
            "gain": gain,
            "mean_outage_seconds": outage.as_secs_f64(),
            "break_even_outage_seconds": (even < Duration::MAX).then_some(even.as_secs_f64()),
        }),
        picture: Picture {
            title: format!("Failover: {}", percent(both.as_f64())),
            subtitle: format!(
                "The slower it is, the less it saves; outages last {}",
                span(outage)
            ),
            panels: vec![downtime(
                "time to detect and switch, s",
                vec![
                    line("with failover", curve?, 0, false),
                    line("the first alone", alone, 1, true),
                    line(
                        "the times given",
                        vec![(takes.as_secs_f64(), minutes(both))],
                        6,
                        false,
                    ),
                ],
            )],
        },
    })
}

fn rows(label: &str, availability: Availability) -> Vec<Vec<String>> {
    let down = availability.downtime(MONTH);
    vec![vec![
        label.to_owned(),
        percent(availability.as_f64()),
        format!("{} down in 30 days", span(down)),
    ]]
}

fn minutes(availability: Availability) -> f64 {
    availability.downtime(MONTH).as_secs_f64() / 60.0
}

fn downtime(x: &'static str, series: Vec<Series>) -> Panel {
    Panel {
        title: "Downtime in 30 days".to_owned(),
        unit: "minutes",
        x,
        log_x: false,
        series,
        bands: Vec::new(),
    }
}

pub(crate) fn line(name: &str, points: Vec<(f64, f64)>, colour: usize, dashed: bool) -> Series {
    Series {
        name: name.to_owned(),
        points,
        colour,
        dashed,
    }
}

const MONTH: Duration = Duration::from_secs(30 * 86_400);
