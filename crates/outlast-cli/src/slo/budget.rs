//! What may fail, and what is left of it.

use std::time::Duration;

use outlast_sim::slo::{self, Share, SloError, Spending, Spent};
use serde_json::{Value, json};

use crate::picture::{Panel, Picture};
use crate::slo::availability::line;
use crate::slo::questions::Budget;
use crate::slo::texts::{percent, span, three};
use crate::slo::{Answer, row};

pub(crate) fn answer(asked: &Budget) -> Result<Answer, SloError> {
    let budget = slo::Budget::new(asked.target, asked.window)?;
    let mut rows = vec![
        row("may fail", percent(budget.share())),
        row("or all of it for", span(budget.downtime())),
    ];
    let mut json = json!({
        "share": budget.share(),
        "downtime_seconds": budget.downtime().as_secs_f64(),
    });
    let mut notes = Vec::new();
    let mut panels = Vec::new();
    if let Some(requests) = asked.requests {
        let spent = Spent {
            requests,
            failed: asked.failed.unwrap_or(0),
            elapsed: asked.elapsed.unwrap_or(asked.window),
        };
        let spending = budget.spending(spent)?;
        json["requests"] = as_json(&spending);
        rows.push(row("requests in all", three(spending.expected)));
        rows.push(row("of them may fail", three(spending.allowed)));
        if asked.failed.is_some() {
            rows.extend(spent_rows(&budget, &spending));
            notes.extend(warning(&budget, &spending));
            panels.push(left(&budget, spent, &spending));
        }
    }
    panels.push(lasts(&budget));
    Ok(Answer {
        head: Vec::new(),
        rows,
        notes,
        json,
        picture: Picture {
            title: format!(
                "{} over {}",
                percent(asked.target.as_f64()),
                span(asked.window)
            ),
            subtitle: format!(
                "{} may fail, or all of it for {}",
                percent(budget.share()),
                span(budget.downtime())
            ),
            panels,
        },
    })
}

fn spent_rows(budget: &slo::Budget, spending: &Spending) -> Vec<Vec<String>> {
    let left = spending.allowed * (1.0 - spending.spent);
    let exhausted = match spending.exhausted {
        None => "never, since nothing failed".to_owned(),
        Some(at) if at > budget.window() => "after the window".to_owned(),
        Some(at) => format!("{} after the window began", span(at)),
    };
    vec![
        row(
            "spent",
            format!("{} of the budget", hundredths(spending.spent)),
        ),
        row("left", format!("{} failed requests", three(left.max(0.0)))),
        row("burn rate", three(spending.burn)),
        row("used up", exhausted),
    ]
}

fn hundredths(share: f64) -> String {
    format!("{}%", three(share * 100.0))
}

fn warning(budget: &slo::Budget, spending: &Spending) -> Option<String> {
    if spending.spent > 1.0 {
        return Some("warning: the promise is broken: more failed than may in all.".to_owned());
    }
    let ends = spending.exhausted.is_some_and(|at| at < budget.window());
    ends.then(|| "warning: at this rate the budget ends before its window does.".to_owned())
}

fn as_json(spending: &Spending) -> Value {
    json!({
        "expected": spending.expected,
        "allowed_failures": spending.allowed,
        "spent": spending.spent,
        "burn": spending.burn,
        "exhausted_seconds": spending.exhausted.map(|at| at.as_secs_f64()),
    })
}

/// The budget over the window: what was, what will be, and what an even pace would be.
fn left(budget: &slo::Budget, spent: Spent, spending: &Spending) -> Panel {
    let days = |time: Duration| time.as_secs_f64() / 86_400.0;
    let (window, now) = (days(budget.window()), days(spent.elapsed));
    let at = |day: f64| (100.0 * (1.0 - spending.spent * day / now)).max(0.0);
    let empty = spending.exhausted.map_or(f64::INFINITY, days);
    let end = empty.min(window);
    let mut was = vec![(0.0, 100.0), (now.min(empty), at(now.min(empty)))];
    let mut will = vec![(now, at(now)), (end, at(end))];
    if empty < now {
        was.push((now, 0.0));
        will.clear();
    }
    Panel {
        title: "Budget left".to_owned(),
        unit: "%",
        x: "days since the window began",
        log_x: false,
        series: vec![
            line("left, at a constant rate", was, 0, false),
            line("if it goes on so", will, 1, true),
            line("an even pace", vec![(0.0, 100.0), (window, 0.0)], 2, true),
        ],
        bands: Vec::new(),
    }
}

/// How long a whole budget lasts, by how much fails.
fn lasts(budget: &slo::Budget) -> Panel {
    let unit = if budget.window() >= Duration::from_secs(2 * 86_400) {
        ("days", 86_400.0)
    } else {
        ("hours", 3600.0)
    };
    // From the ratio that spends it just within the window to a hundred times that.
    let ratio = |step: u32| budget.share() * 100f64.powf(f64::from(step) / 100.0);
    let shares = (0..=100).filter_map(|step| Share::new(ratio(step).min(1.0)).ok());
    let points = shares.map(|share| {
        let lasts = budget.lasts(share).as_secs_f64() / unit.1;
        (share.as_f64() * 100.0, lasts)
    });
    Panel {
        title: "A whole budget lasts".to_owned(),
        unit: unit.0,
        x: "errors, %",
        log_x: true,
        series: vec![line("", points.collect(), 0, false)],
        bands: Vec::new(),
    }
}
