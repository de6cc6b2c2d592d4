//! How advice is shown: a table, what it rests on, and the lines for the policy file; or JSON.

use std::fmt::Write;
use std::time::Duration;

use outlast_sim::advise::{Parameter, Recommendation, Value, Verdict};
use serde_json::{Value as Json, json};

use super::Advice;

pub(super) fn text(advice: &[Advice]) -> String {
    let mut page = String::new();
    for one in advice {
        let (name, observed) = (&one.seen.upstream, &one.seen.observed);
        let (timed, window) = (observed.timed(), lasting(observed.window));
        line(
            &mut page,
            &format!("{name}: {timed} attempts in {window}\n"),
        );
        let rows: Vec<_> = one
            .recommendations
            .iter()
            .map(|recommendation| cells(one, recommendation))
            .collect();
        let now = rows.iter().map(|row| row[1].len()).max().unwrap_or(0);
        let now = now.max(8) + 2;
        line(
            &mut page,
            &row(["setting", "now", "advised", "interval", "n"], now),
        );
        rows.iter()
            .for_each(|cells| line(&mut page, &row(cells.each_ref().map(String::as_str), now)));
        line(&mut page, "\nwhy");
        let notes = one.recommendations.iter();
        notes.for_each(|recommendation| note(&mut page, one, recommendation));
        line(&mut page, "");
    }
    let lines: String = advice.iter().map(policy).collect();
    if lines.is_empty() {
        line(&mut page, "Nothing can be advised yet.");
    } else {
        line(&mut page, &format!("{IN_PLACE}\n"));
        line(&mut page, &format!("upstreams:\n{}", lines.trim_end()));
    }
    page
}

fn line(page: &mut String, text: &str) {
    page.push_str(text.trim_end_matches(' '));
    page.push('\n');
}

fn row([setting, now, advised, interval, n]: [&str; 5], width: usize) -> String {
    format!("  {setting:<22}{now:<width$}{advised:<10}{interval:<22}{n}")
        .trim_end()
        .to_owned()
}

fn cells(advice: &Advice, recommendation: &Recommendation) -> [String; 5] {
    let now = advice.now(recommendation);
    let now = now.unwrap_or_else(|| "-".to_owned());
    let (advised, interval) = match &recommendation.verdict {
        Verdict::Advised {
            value, low, high, ..
        } => (value.to_string(), format!("{low} to {high}")),
        Verdict::Refused { .. } => ("refused".to_owned(), String::new()),
    };
    let name = recommendation.parameter.name().to_owned();
    [name, now, advised, interval, recommendation.n.to_string()]
}

fn note(page: &mut String, advice: &Advice, recommendation: &Recommendation) {
    let name = recommendation.parameter.name();
    let text = match &recommendation.verdict {
        Verdict::Advised { assumes, .. } => {
            let formula = recommendation.parameter.formula();
            let mut text = format!("{name}: {formula}. Assumes {assumes}.");
            if let Some(quantile) = follows(advice, recommendation.parameter) {
                let _ = write!(
                    text,
                    " It is {quantile} now, which follows what is measured; a fixed time does not, so it is \
                     left out below.",
                );
            }
            text
        }
        Verdict::Refused { why, needs } => format!("{name}: refused, {why}. Needs {needs}."),
    };
    for (at, words) in wrapped(&text).iter().enumerate() {
        let indent = if at == 0 { "  " } else { "      " };
        line(page, &format!("{indent}{words}"));
    }
}

/// The quantile that a setting is now, and that is better kept.
fn follows(advice: &Advice, parameter: Parameter) -> Option<&str> {
    match parameter {
        Parameter::Hedge => advice.seen.words.hedge.as_deref(),
        _ => None,
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line");
        if !last.is_empty() && last.len() + word.len() >= WIDTH {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// The lines of an upstream in a policy file; none if nothing is advised.
fn policy(advice: &Advice) -> String {
    let value = |parameter| {
        let mut all = advice.recommendations.iter();
        let found = all.find(|one| one.parameter == parameter);
        found.and_then(Recommendation::value)
    };
    let mut lines = String::new();
    let mut add = |key: &str, setting: String| {
        let _ = writeln!(lines, "    {key}: {setting}");
    };
    if let Some(timeout) = value(Parameter::Timeout) {
        add("timeout", timeout.to_string());
    }
    // A queue needs seats to wait for.
    let set = advice.seen.observed.settings.concurrency.map(Value::Count);
    match (
        value(Parameter::Concurrency).or(set),
        value(Parameter::Queue),
    ) {
        (Some(seats), Some(queue)) => {
            add(
                "bulkhead",
                format!("{{ concurrency: {seats}, queue: {queue} }}"),
            );
        }
        (Some(seats), None) if value(Parameter::Concurrency).is_some() => {
            add("bulkhead", format!("{{ concurrency: {seats} }}"));
        }
        _ => {}
    }
    if let (Some(hedge), None) = (value(Parameter::Hedge), &advice.seen.words.hedge) {
        add("hedge", format!("{{ after: {hedge} }}"));
    }
    if let Some(Value::Of(failures, calls)) = value(Parameter::Breaker) {
        add(
            "breaker",
            format!("{{ failures: {failures}, within: {calls} }}"),
        );
    }
    if let Some(attempts) = value(Parameter::Attempts) {
        add("retry", format!("{{ attempts: {attempts} }}"));
    }
    if let Some(ratio) = value(Parameter::Ratio) {
        add("budget", format!("{{ ratio: {ratio} }}"));
    }
    if lines.is_empty() {
        return lines;
    }
    format!("  {}:\n{lines}", advice.seen.upstream)
}

pub(super) fn json(advice: &[Advice]) -> Json {
    let upstreams: Vec<_> = advice
        .iter()
        .map(|one| {
            let advice = one.recommendations.iter();
            let advice: Vec<_> = advice.map(|advice| as_json(one, advice)).collect();
            json!({ "upstream": one.seen.upstream, "attempts": one.seen.observed.timed(), "advice": advice })
        })
        .collect();
    let lines: String = advice.iter().map(policy).collect();
    let policy = (!lines.is_empty()).then(|| format!("upstreams:\n{lines}"));
    json!({ "upstreams": upstreams, "policy": policy })
}

fn as_json(advice: &Advice, recommendation: &Recommendation) -> Json {
    let mut json = json!({
        "parameter": recommendation.parameter.name(),
        "current": advice.now(recommendation),
        "formula": recommendation.parameter.formula(),
        "window_seconds": recommendation.window.as_secs_f64(),
        "n": recommendation.n,
    });
    match &recommendation.verdict {
        Verdict::Advised {
            value,
            low,
            high,
            assumes,
        } => {
            json["value"] = json!(value.to_string());
            json["interval"] = json!([low.to_string(), high.to_string()]);
            json["assumes"] = json!(assumes);
        }
        Verdict::Refused { why, needs } => {
            json["refused"] = json!(why);
            json["needs"] = json!(needs);
        }
    }
    json
}

fn lasting(window: Duration) -> String {
    match window.as_secs() {
        seconds if seconds < 120 => format!("{:.1} s", window.as_secs_f64()),
        seconds if seconds < 7_200 => format!("{} min", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A second `timeout` in a file is an error, and a second rule of a breaker trips it as well.
const IN_PLACE: &str = "For the policy file, in place of the same settings where it has them; what else a \
                        mapping has\n(a backoff, a cooldown) stays, but for the rules of a breaker:";
const WIDTH: usize = 94;
