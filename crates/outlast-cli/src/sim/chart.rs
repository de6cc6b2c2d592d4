//! The course of runs over time, as a picture: all policies over each other.

use outlast_config::scenario::Scenario;
use outlast_sim::scenario::{Course, CourseSecond};

use super::{Outcome, Sim};
use crate::picture::{Band, Panel, Picture, Series};

pub(super) fn picture(sim: &Sim, results: &[Outcome]) -> Picture {
    let first = &results[0];
    let scenario = first.trial.scenario();
    let name = sim
        .scenario
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let runs = first.batch.runs.len();
    let mut panels = of_sagas(results);
    if !scenario.clients.is_empty() {
        panels.extend(of_calls(results));
    }
    for (number, service) in scenario.services.iter().enumerate() {
        let is_called = |outcome: &Outcome| {
            let present = &outcome.batch.course.present[number];
            present.iter().any(|count| *count > 0)
        };
        if !results.iter().any(is_called) {
            // It is only asked whether it is there.
            continue;
        }
        let title = format!("requests at {}, waiting or worked on", service.name);
        let at = move |course: &Course| means(&course.present[number], course.runs);
        panels.push(panel(&title, "", results, at));
    }
    for number in 0..first.batch.course.open.len() {
        let opens = |outcome: &Outcome| {
            let open = outcome.batch.course.open.get(number);
            open.is_some_and(|open| open.iter().any(|count| *count > 0))
        };
        if results.iter().any(opens) {
            let title = format!(
                "breakers of {} that are open or try",
                name_of(first, number)
            );
            let at = move |course: &Course| {
                course
                    .open
                    .get(number)
                    .map_or(Vec::new(), |open| means(open, course.runs))
            };
            panels.push(panel(&title, "", results, at));
        }
    }
    bands(&mut panels, scenario);
    if let Some(last) = panels.last_mut() {
        last.x = "time (s)";
    }
    let files: Vec<_> = results.iter().map(file_name).collect();
    Picture {
        title: format!("{name}: {}", files.join(" against ")),
        subtitle: format!("means of {runs} runs from seed {}", first.seed),
        panels,
    }
}

/// What became of calls; the first panel says what was asked for.
fn of_calls(results: &[Outcome]) -> Vec<Panel> {
    vec![
        panel("calls/s", "", results, |course| {
            a_second(course, |second| second.calls)
        }),
        panel("goodput", "calls/s", results, |course| {
            a_second(course, |second| second.good)
        }),
        panel("attempts/s", "", results, |course| {
            a_second(course, |second| second.attempts)
        }),
        panel("latency p99 of good calls", "ms", results, |course| {
            let millis = |second: &CourseSecond| {
                let took = second.times.quantile(0.99);
                took.map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
            };
            course.seconds.iter().map(millis).collect()
        }),
    ]
}

/// How many sagas begin, how they end by when they began, and how many are under way; none if there are
/// none.
fn of_sagas(results: &[Outcome]) -> Vec<Panel> {
    if results[0].trial.scenario().sagas.is_empty() {
        return Vec::new();
    }
    let ended = |which: usize| {
        move |course: &Course| {
            let counts: Vec<u64> = course.sagas.iter().map(|second| second[which]).collect();
            means(&counts, course.runs)
        }
    };
    vec![
        panel("sagas that begin", "a second", results, ended(0)),
        panel(
            "sagas that end done",
            "by when they began",
            results,
            ended(1),
        ),
        panel(
            "sagas that end undone",
            "by when they began",
            results,
            ended(2),
        ),
        panel("sagas in flight", "", results, |course| {
            means(&course.flying, course.runs)
        }),
    ]
}

/// The means of as many seconds as leave a line that can be drawn, from the second `first` on. What is
/// no number is left out of them.
fn thinned(values: &[f64], first: usize) -> Vec<(f64, f64)> {
    let width = values.len().div_ceil(MOST_POINTS).max(1);
    let mean = |(number, seconds): (usize, &[f64])| {
        let finite: Vec<f64> = seconds
            .iter()
            .copied()
            .filter(|one| one.is_finite())
            .collect();
        let sum: f64 = finite.iter().sum();
        ((first + number * width) as f64, sum / finite.len() as f64)
    };
    values.chunks(width).enumerate().map(mean).collect()
}

fn file_name(outcome: &Outcome) -> String {
    let name = outcome.policy.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn name_of(outcome: &Outcome, upstream: usize) -> String {
    outcome.trial.upstream_name(upstream).to_owned()
}

/// What there was in each second, in the mean of the runs.
fn a_second(course: &Course, of: fn(&CourseSecond) -> u64) -> Vec<f64> {
    let sums: Vec<u64> = course.seconds.iter().map(of).collect();
    means(&sums, course.runs)
}

fn means(sums: &[u64], runs: u32) -> Vec<f64> {
    sums.iter()
        .map(|sum| *sum as f64 / f64::from(runs))
        .collect()
}

/// A line for each policy file.
fn panel(
    title: &str,
    unit: &'static str,
    results: &[Outcome],
    values: impl Fn(&Course) -> Vec<f64>,
) -> Panel {
    let line = |(number, outcome): (usize, &Outcome)| {
        // What began before was not counted.
        let first = outcome.trial.scenario().warm_up.as_secs() as usize;
        let values = values(&outcome.batch.course);
        let counted = thinned(values.get(first..).unwrap_or_default(), first);
        Series {
            name: file_name(outcome),
            points: counted,
            colour: number,
            dashed: number > 0,
        }
    };
    Panel {
        title: title.to_owned(),
        unit,
        x: "",
        log_x: false,
        series: results.iter().enumerate().map(line).collect(),
        bands: Vec::new(),
    }
}

/// What happens is named in the first panel, and shown in all.
fn bands(panels: &mut [Panel], scenario: &Scenario) {
    for (number, panel) in panels.iter_mut().enumerate() {
        for change in &scenario.timeline {
            panel.bands.push(Band {
                from: change.from.as_secs_f64(),
                to: change.to.unwrap_or(scenario.lasts).as_secs_f64(),
                name: if number == 0 {
                    change.name(scenario)
                } else {
                    String::new()
                },
            });
        }
    }
}

/// More points than there are pixels only make a file larger.
const MOST_POINTS: usize = 600;
