//! When to wake somebody.

use std::time::Duration;

use outlast_sim::slo::{Alert, Budget, Share, SloError, Urgency, alerts};
use serde_json::{Value, json};

use crate::picture::{Panel, Picture, Series};
use crate::slo::Answer;
use crate::slo::availability::line;
use crate::slo::texts::{percent, span, three};

pub(crate) fn answer(target: Share, window: Duration) -> Result<Answer, SloError> {
    let budget = Budget::new(target, window)?;
    let alerts = alerts(&budget)?;
    let errors: Result<Vec<_>, _> = ERRORS.into_iter().map(Share::new).collect();
    let errors = errors?;
    let mut head = ["alert", "burn", "over", "and", "budget", "errors above"]
        .map(str::to_owned)
        .to_vec();
    head.extend(
        errors
            .iter()
            .map(|errors| format!("at {}", percent(errors.as_f64()))),
    );
    let mut notes = vec![format!(
        "The last {} columns: how long errors of that ratio take until the alert fires.",
        errors.len()
    )];
    notes.extend(alerts.iter().filter_map(warning));
    Ok(Answer {
        head,
        rows: alerts.iter().map(|alert| row(alert, &errors)).collect(),
        notes,
        json: json!({
            "budget": budget.share(),
            "alerts": alerts.iter().map(|alert| as_json(alert, &errors)).collect::<Vec<_>>(),
        }),
        picture: Picture {
            title: format!(
                "Alerts for {} over {}",
                percent(target.as_f64()),
                span(window)
            ),
            subtitle:
                "How long a constant ratio of errors takes until an alert fires; a line begins \
                       at the ratio from which on it does"
                    .to_owned(),
            panels: vec![panel(&alerts, &budget)],
        },
    })
}

fn row(alert: &Alert, errors: &[Share]) -> Vec<String> {
    let mut row = vec![
        name(alert.urgency).to_owned(),
        format!("{}x", three(alert.burn)),
        span(alert.long),
        span(alert.short),
        percent(alert.share),
        if alert.errors <= 1.0 {
            percent(alert.errors)
        } else {
            "more than all".to_owned()
        },
    ];
    row.extend(errors.iter().map(|errors| {
        let fires = alert.fires_after(*errors);
        fires.map_or("never".to_owned(), span)
    }));
    row
}

fn warning(alert: &Alert) -> Option<String> {
    let name = format!("the {} over {}", name(alert.urgency), span(alert.long));
    if alert.errors > 1.0 {
        return Some(format!(
            "warning: {name} never fires: even if all fails, the budget burns slower. Watch it with a \
             longer window, or promise more."
        ));
    }
    (alert.burn < 0.999).then(|| {
        format!(
            "warning: {name} fires at {}x, although at that rate the budget lasts longer than its \
             window. Raise it to 1x, or leave it out.",
            three(alert.burn)
        )
    })
}

fn name(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Page => "page",
        Urgency::Ticket => "ticket",
    }
}

fn as_json(alert: &Alert, errors: &[Share]) -> Value {
    let fires = errors.iter().map(|errors| {
        json!({
            "errors": errors.as_f64(),
            "seconds": alert.fires_after(*errors).map(|after| after.as_secs_f64()),
        })
    });
    json!({
        "urgency": name(alert.urgency),
        "long_seconds": alert.long.as_secs_f64(),
        "short_seconds": alert.short.as_secs_f64(),
        "budget_share": alert.share,
        "burn": alert.burn,
        "errors_above": alert.errors,
        "fires_after": fires.collect::<Vec<_>>(),
    })
}

/// From where the slowest page fires to all, on a logarithmic axis.
fn panel(alerts: &[Alert], budget: &Budget) -> Panel {
    let pages = alerts.iter().filter(|alert| alert.urgency == Urgency::Page);
    let lines = pages.enumerate().map(|(at, alert)| {
        let never = if alert.errors > 1.0 { ", never" } else { "" };
        let name = format!("{}x over {}{never}", three(alert.burn), span(alert.long));
        curve(name, alert, at)
    });
    Panel {
        title: format!("Time to page, budget {}", percent(budget.share())),
        unit: "minutes",
        x: "errors, %",
        log_x: true,
        series: lines.collect(),
        bands: Vec::new(),
    }
}

fn curve(name: String, alert: &Alert, at: usize) -> Series {
    let least = alert.errors.min(1.0);
    let ratio = |step: u32| least * (1.0 / least).powf(f64::from(step) / 100.0);
    let points = (0..=100).filter_map(|step| {
        let errors = Share::new(ratio(step).clamp(least, 1.0)).ok()?;
        let fires = alert.fires_after(errors)?;
        Some((errors.as_f64() * 100.0, fires.as_secs_f64() / 60.0))
    });
    line(&name, points.collect(), at, at > 0)
}

/// All, and what partial outages look like.
const ERRORS: [f64; 4] = [1.0, 0.1, 0.05, 0.02];
