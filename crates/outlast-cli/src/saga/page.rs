//! Sagas for people: lists, one saga's steps, and its way.

use serde_json::Value;

/// What came of a start.
pub(super) fn started(told: &Value) -> String {
    let again = if told["new"] == true {
        ""
    } else {
        " (it had begun before)"
    };
    format!("{}  {}{again}\n", text(&told["id"]), text(&told["state"]))
}

pub(super) fn list(told: &Value) -> String {
    let sagas = told["sagas"].as_array().cloned().unwrap_or_default();
    let mut rows = vec![["id", "saga", "state", "began"].map(str::to_owned)];
    rows.extend(sagas.iter().map(|saga| {
        [
            text(&saga["id"]),
            format!("{} v{}", text(&saga["definition"]), saga["version"]),
            text(&saga["state"]),
            text(&saga["began"]),
        ]
    }));
    let mut page = table(&rows);
    if let Some(next) = told["next"].as_i64() {
        page.push_str(&format!("there are more: --after {next}\n"));
    }
    page
}

/// The steps that wait for somebody, of sagas that do.
pub(super) fn dead_letters(sagas: &[Value]) -> String {
    let mut rows = vec![["id", "saga", "step", "why"].map(str::to_owned)];
    for saga in sagas {
        let steps = saga["steps"].as_array().cloned().unwrap_or_default();
        let needs = |step: &&Value| step["state"] == "dead" || step["state"] == "stuck";
        for step in steps.iter().filter(needs) {
            let what = if step["state"] == "dead" { "undo " } else { "" };
            rows.push([
                text(&saga["id"]),
                format!("{} v{}", text(&saga["definition"]), saga["version"]),
                format!("{what}{}", text(&step["name"])),
                text(&step["error"]),
            ]);
        }
    }
    if rows.len() == 1 {
        return "no saga waits for anybody\n".to_owned();
    }
    table(&rows)
}

/// One saga: where it is, its steps, and its way.
pub(super) fn saga(saga: &Value, log: &Value) -> String {
    let mut page = format!(
        "{}  {} v{}  {}\n",
        text(&saga["id"]),
        text(&saga["definition"]),
        saga["version"],
        text(&saga["state"])
    );
    if let Some(what) = saga["waiting_for"].as_str() {
        page.push_str(&format!("waits for {what}\n"));
    }
    if !saga["input"].is_null() {
        page.push_str(&format!(
            "began with {}\n",
            short(&saga["input"].to_string())
        ));
    }
    let mut rows = vec![["step", "state", "attempts", "gave, or why not"].map(str::to_owned)];
    for step in saga["steps"].as_array().into_iter().flatten() {
        let undo = step["undo_attempts"].as_u64().unwrap_or_default();
        let attempts = if undo > 0 {
            format!("{}, undo {undo}", step["attempts"])
        } else {
            step["attempts"].to_string()
        };
        let gave = match (&step["output"], step["error"].as_str()) {
            (Value::Null, Some(error)) => error.to_owned(),
            (Value::Null, None) => String::new(),
            (output, _) => short(&output.to_string()),
        };
        let (name, state) = (text(&step["name"]), text(&step["state"]));
        rows.push([name, state.replace('_', " "), attempts, gave]);
    }
    page.push('\n');
    if rows.len() > 1 {
        page.push_str(&table(&rows));
        page.push('\n');
    }
    let mut way = Way::default();
    for record in log["records"].as_array().into_iter().flatten() {
        page.push_str(&way.of(record));
    }
    page
}

/// The way of a saga, entry by entry.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// The time that was told last.
    at: String,
}

impl Way {
    /// The lines of an entry of its log; of the last event, where it is.
    pub(super) fn of(&mut self, record: &Value) -> String {
        let Some(events) = record["events"].as_array() else {
            return String::new();
        };
        let at = text(&record["at"]);
        let mut lines = String::new();
        for event in events {
            let Some(what) = what(event) else {
                continue;
            };
            // A time is told once.
            let shown = if at == self.at { "" } else { &at };
            let step = event["step"].as_str().unwrap_or_default();
            lines.push_str(&format!("{shown:24}  {step:12}  {what}\n"));
            self.at.clone_from(&at);
        }
        lines
    }
}

/// What an event is for people; `None` if it is part of another one.
fn what(event: &Value) -> Option<String> {
    let name = event["event"].as_str()?;
    let error = || text(&event["error"]);
    let again = || match event["again_ms"].as_u64() {
        Some(wait) => format!("; again in {wait} ms"),
        None => "; given up".to_owned(),
    };
    Some(match name {
        "began" => format!(
            "{} v{} begins",
            text(&event["definition"]),
            event["version"]
        ),
        "started" => format!("attempt {}", event["attempt"]),
        "succeeded" => "done".to_owned(),
        "failed" => format!("failed: {}{}", error(), again()),
        "lost" => format!("not known: {}{}", error(), again()),
        "skipped" => "skipped: it was best effort".to_owned(),
        "turned_back" => turned_back(&event["cause"]),
        "undo_started" => format!("undo, attempt {}", event["attempt"]),
        "undone" => "undone".to_owned(),
        "undo_failed" => format!("undo failed: {}{}", error(), again()),
        "dead_lettered" => format!("cannot be undone, somebody has to look: {}", error()),
        "parked" => format!("cannot be done, somebody has to look: {}", error()),
        "handled" => {
            let how = match event["how"].as_str() {
                Some("resolve") => "resolved",
                _ => "retried",
            };
            format!(
                "{how} by {}: {}",
                text(&event["by"]),
                text(&event["reason"])
            )
        }
        "recovered" => "another process goes on".to_owned(),
        "ended" => text(&event["outcome"]),
        other => other.to_owned(),
    })
}

fn turned_back(cause: &Value) -> String {
    match cause["cause"].as_str() {
        Some("cancelled") => format!(
            "cancelled by {}: {}",
            text(&cause["by"]),
            text(&cause["reason"])
        ),
        Some("deadline") => "goes back: its deadline has passed".to_owned(),
        _ => format!("goes back: `{}` was given up", text(&cause["step"])),
    }
}

/// Columns as wide as what is in them; the last one as it is.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let mut page = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 == N {
                0
            } else {
                width(column) + 2
            };
            line.push_str(&format!("{cell:width$}"));
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn short(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}...")
}

/// A line that still fits a screen; `--json` has all of it.
const LONGEST: usize = 120;
