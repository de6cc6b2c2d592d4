//! Queues for people: how they are doing, what is in them, and one request.

use serde_json::Value;

use crate::saga::page::{table, text};

pub(super) fn queues(told: &Value) -> String {
    let mut rows = vec![
        [
            "queue", "upstream", "gate", "waiting", "dead", "oldest", "pace",
        ]
        .map(str::to_owned),
    ];
    for queue in told["queues"].as_array().into_iter().flatten() {
        let oldest = queue["oldest_seconds"].as_f64();
        rows.push([
            text(&queue["queue"]),
            text(&queue["upstream"]),
            text(&queue["gate"]).replace('_', " "),
            queue["waiting"].to_string(),
            queue["dead"].to_string(),
            oldest.map_or("-".to_owned(), age),
            format!("{:.0}/s", queue["pace"].as_f64().unwrap_or_default()),
        ]);
    }
    if rows.len() == 1 {
        return "the gateway has no queues\n".to_owned();
    }
    table(&rows)
}

pub(super) fn list(told: &Value) -> String {
    let mut rows = vec![["id", "key", "status", "attempts", "queued"].map(str::to_owned)];
    for message in told["messages"].as_array().into_iter().flatten() {
        rows.push([
            text(&message["id"]),
            text(&message["key"]),
            text(&message["status"]),
            message["attempts"].to_string(),
            text(&message["queued"]),
        ]);
    }
    if rows.len() == 1 {
        return "there are none\n".to_owned();
    }
    let mut page = table(&rows);
    if let Some(next) = told["next"].as_i64() {
        page.push_str(&format!("there may be more: --after {next}\n"));
    }
    page
}

pub(super) fn dead_letters(messages: &[Value]) -> String {
    if messages.is_empty() {
        return "there are no dead letters\n".to_owned();
    }
    let mut rows = vec![["queue", "id", "attempts", "died", "why"].map(str::to_owned)];
    for message in messages {
        rows.push([
            text(&message["queue"]),
            text(&message["id"]),
            message["attempts"].to_string(),
            text(&message["ended"]),
            text(&message["error"]),
        ]);
    }
    table(&rows)
}

/// One request: what it is, where it is, and what people did about it.
pub(super) fn request(told: &Value) -> String {
    let mut page = format!(
        "{}  {}  {}\n\n",
        text(&told["id"]),
        text(&told["queue"]),
        text(&told["status"])
    );
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push([name.to_owned(), value]);
        }
    };
    row("request", text(&told["request"]));
    row("to", text(&told["upstream"]));
    row("key", text(&told["key"]));
    row("bytes", told["bytes"].to_string());
    row("queued", text(&told["queued"]));
    row("expires", text(&told["expires"]));
    row("attempts", told["attempts"].to_string());
    row("next one", text(&told["due"]));
    row("ended", text(&told["ended"]));
    row("why not", text(&told["error"]));
    for note in told["notes"].as_array().into_iter().flatten() {
        let how = match note["how"].as_str() {
            Some("discard") => "discarded",
            _ => "retried",
        };
        let (by, reason) = (text(&note["by"]), text(&note["reason"]));
        row(&text(&note["at"]), format!("{how} by {by}: {reason}"));
    }
    page.push_str(&table(&rows));
    page
}

/// Seconds as people say them.
fn age(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.0}s"),
        seconds if seconds < 7200.0 => format!("{:.0}m", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0}h", seconds / 3600.0),
        seconds => format!("{:.0}d", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_are_told_in_the_unit_that_fits() {
        let check = |seconds: f64, told: &str| assert_eq!(age(seconds), told);
        check(0.4, "0s");
        check(119.0, "119s");
        check(120.0, "2m");
        check(7200.0, "2h");
        check(3.0 * 86_400.0, "3d");
    }
}
