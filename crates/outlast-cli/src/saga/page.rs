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

/// Definitions, a line for each version.
pub(super) fn definitions(told: &Value) -> String {
    let mut rows = vec![["definition", "open", "waiting", "state"].map(str::to_owned)];
    for definition in told["definitions"].as_array().into_iter().flatten() {
        let state = if definition["paused"] == true {
            let word = &definition["last_word"];
            format!(
                "paused by {} since {}: {}",
                text(&word["by"]),
                text(&word["at"]),
                text(&word["reason"])
            )
        } else {
            "goes on".to_owned()
        };
        for version in definition["versions"].as_array().into_iter().flatten() {
            rows.push([
                format!("{} v{}", text(&definition["name"]), version["version"]),
                version["open"].to_string(),
                version["waiting"].to_string(),
                state.clone(),
            ]);
        }
    }
    for gone in told["gone"].as_array().into_iter().flatten() {
        let count = |state: &str| match gone["state"] == state {
            true => gone["sagas"].to_string(),
            false => String::new(),
        };
        rows.push([
            format!("{} v{}", text(&gone["name"]), gone["version"]),
            count("open"),
            count("waiting"),
            "not in the policy file: put it back".to_owned(),
        ]);
    }
    table(&rows)
}

/// The steps that wait for somebody, of sagas that do; `command` is how this one is called.
pub(super) fn dead_letters(sagas: &[Value], command: &str) -> String {
    let heads = ["id", "saga", "step", "since", "attempts", "why"];
    let mut rows = vec![heads.map(str::to_owned)];
    for saga in sagas {
        let steps = saga["steps"].as_array().cloned().unwrap_or_default();
        let needs = |step: &&Value| step["state"] == "dead" || step["state"] == "stuck";
        for step in steps.iter().filter(needs) {
            let (what, attempts) = match step["state"] == "dead" {
                true => ("undo ", &step["undo_attempts"]),
                false => ("", &step["attempts"]),
            };
            rows.push([
                text(&saga["id"]),
                format!("{} v{}", text(&saga["definition"]), saga["version"]),
                format!("{what}{}", text(&step["name"])),
                text(&step["since"]),
                attempts.to_string(),
                text(&step["error"]),
            ]);
        }
    }
    if rows.len() == 1 {
        return "no saga waits for anybody\n".to_owned();
    }
    let mut page = table(&rows);
    page.push_str(&format!(
        "\n{command} show ID  tells all of one, and what helps\n"
    ));
    page
}

/// One saga: where it is, its steps, what helps if it waits for somebody, and its way.
pub(super) fn saga(saga: &Value, log: &Value, command: &str) -> String {
    let mut page = format!(
        "{}  {} v{}  {}\n",
        text(&saga["id"]),
        text(&saga["definition"]),
        saga["version"],
        text(&saga["state"])
    );
    for step in saga["not_undone"].as_array().into_iter().flatten() {
        page.push_str(&format!("`{}` is not undone\n", text(step)));
    }
    if saga["waiting_for"].is_string() {
        page.push_str(&format!("waits for {}\n", text(&saga["waiting_for"])));
    }
    if saga["log_dropped"] == true {
        let ended = saga["ended"].as_str();
        let ended = ended.map_or_else(String::new, |ended| format!(", ended {ended}"));
        let (began, note) = (text(&saga["began"]), text(&saga["note"]));
        page.push_str(&format!("began {began}{ended}\n{note}\n"));
        return page;
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
        // Of what waits, why is what matters; what it gave stands below.
        let waits = step["since"].is_string();
        let gave = match (&step["output"], step["error"].as_str()) {
            (Value::Null, None) => String::new(),
            (output, Some(_)) if output.is_null() || waits => text(&step["error"]),
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
    page.push_str(&what_helps(saga, command));
    let mut way = Way::default();
    for record in log["records"].as_array().into_iter().flatten() {
        page.push_str(&way.of(record));
    }
    page
}

/// Of each step that waits for somebody what is known, and the commands that help.
fn what_helps(saga: &Value, command: &str) -> String {
    let id = text(&saga["id"]);
    let mut page = String::new();
    let mut rows = Vec::new();
    for step in saga["steps"].as_array().into_iter().flatten() {
        let hands = step["hands"].as_array().cloned().unwrap_or_default();
        if hands.is_empty() {
            continue;
        }
        let (name, is_undo) = (text(&step["name"]), step["state"] == "dead");
        let what = if is_undo { "undone" } else { "done" };
        page.push_str(&format!(
            "`{name}` could not be {what}; its key is {}, and it waits since {}\n",
            text(&step["key"]),
            text(&step["since"])
        ));
        if step["may_be_done"] == true && !is_undo {
            page.push_str("nobody knows whether it was done: look there before you say so\n");
        }
        if is_undo && !step["output"].is_null() {
            page.push_str(&format!("it gave {}\n", short(&step["output"].to_string())));
        }
        for hand in &hands {
            let hand = text(hand);
            let means = match (&*hand, is_undo) {
                ("retry", true) => "undo it again, as often as at first",
                ("retry", _) => "do it again, as often as at first",
                ("skip", true) => "leave it: it is told to be not undone",
                ("skip", _) => "go on without it; --output JSON gives what later steps need",
                (_, true) => "it was undone by other means",
                _ => "it was done by other means; --output JSON says what it gave",
            };
            let line = format!("{command} {hand} {id} {name} --by YOU --reason WHY");
            rows.push([line, means.to_owned()]);
        }
    }
    if rows.is_empty() {
        return page;
    }
    if saga["may_cancel"] == true {
        let line = format!("{command} cancel {id} --by YOU --reason WHY");
        rows.push([line, "undo what was done".to_owned()]);
    }
    for line in table(&rows).lines() {
        page.push_str(&format!("  {line}\n"));
    }
    page.push('\n');
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
            // The end is not on the log; what there is to say of one without a log is.
            let note = record["note"].as_str();
            return note.map_or_else(String::new, |note| {
                format!("{}: {note}\n", text(&record["state"]))
            });
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
        "lost" if event["asks"] == true => format!("not known: {}", error()),
        "lost" => format!("not known: {}{}", error(), again()),
        "query_started" => format!("was it done? attempt {}", event["attempt"]),
        "found_done" => "it was done".to_owned(),
        "found_not_done" => format!("it was not done{}", again()),
        "query_failed" => format!("still not known: {}{}", error(), again()),
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
                Some("skip") => "skipped",
                _ => "retried",
            };
            let gave = match &event["output"] {
                Value::Null => String::new(),
                output => format!("; it gave {}", short(&output.to_string())),
            };
            format!(
                "{how} by {}: {}{gave}",
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
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
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

/// A text as one line. What a service answered may be several, or move a terminal's cursor.
pub(crate) fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.replace(char::is_control, " ")
}

fn short(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    if text.chars().count() <= LONGEST {
        return text;
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}...")
}

/// A line that still fits a screen; `--json` has all of it.
const LONGEST: usize = 120;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_service_said_is_one_line() {
        let said = text(&json!("no:\r\n\u{1b}[2Jall is well\u{9b}1A"));
        assert_eq!(said, "no:   [2Jall is well 1A");
        let rows = [[text(&json!("a\nb")), text(&json!("c"))]];
        assert_eq!(table(&rows), "a b  c\n");
    }
}
