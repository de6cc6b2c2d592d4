//! Queues, and which upstream each is delivered to.

use std::time::Duration;

use outlast_core::backoff::{Backoff, Jitter};

use super::saga::outcomes;
use super::{Reader, is_start_of_path};
use crate::plan::{Queue, QueueKey, Upstream};
use crate::policies::{self, section_of};
use crate::problem::did_you_mean;
use crate::sections::{PACE, QUEUE, QUEUE_RETRY, UPSTREAM};
use crate::value;
use crate::view::View;
use crate::yaml::{Entry, Value};

impl Reader<'_, '_> {
    /// Reads `queues`.
    pub(super) fn queues(
        &mut self,
        file: View<'_>,
        upstreams: &[Upstream],
        has_admin: bool,
    ) -> Vec<Queue> {
        let entries = file.names("queues");
        if !has_admin && !entries.is_empty() {
            self.problem(
                file.place_of("queues"),
                "dead letters are handled at the admin listener, and there is none",
                "give `gateway.admin` an address",
            );
        }
        self.check_users(file, upstreams);
        let mut queues: Vec<Queue> = Vec::new();
        for entry in entries {
            let Some(queue) = self.queue(entry, upstreams) else {
                continue;
            };
            let mut before = queues.iter();
            let twice = before.find(|before| overlap(before, &queue));
            if let Some(before) = twice {
                let message = format!("this is the status path of `{}`, too", before.name);
                let place = View::new(&entry.node, &QUEUE).value_place("status_path");
                self.problem(place, message, "give each queue a path of its own");
            }
            queues.push(queue);
        }
        queues
    }

    fn queue(&mut self, entry: &Entry, upstreams: &[Upstream]) -> Option<Queue> {
        let view = View::new(&entry.node, &QUEUE);
        let name = &entry.key;
        self.check_step_name(name, entry.key_place);
        for key in ["max_age", "timeout", "remember"] {
            self.refuse_no_time(view, key);
        }
        let (bytes, message_bytes) = (view.size("bytes")?, view.size("message_bytes")?);
        if !(1024..=64 << 20).contains(&message_bytes) || message_bytes > bytes {
            let mend = "write a size from `1KiB` to `64MiB`, and no more than `bytes`";
            let place = view.value_place("message_bytes");
            self.problem(place, "requests are not kept by this size", mend);
        }
        let retry = view.part("retry", &QUEUE_RETRY);
        let backoff = if retry.node_of("backoff").is_some() {
            policies::backoff(retry, "backoff")
        } else {
            Backoff::exponential(Duration::from_secs(1))
                .jitter(Jitter::Equal)
                .max(Duration::from_secs(600))
        };
        let (slowest, fastest) = self.pace(view.part("pace", &PACE))?;
        let is_its = |upstream: &&Upstream| uses(upstream).any(|used| used == name);
        let upstream = upstreams.iter().find(is_its);
        Some(Queue {
            name: name.clone(),
            upstream: upstream.map(|upstream| upstream.name.clone()),
            key: self.queue_key(view),
            max_age: view.duration("max_age")?,
            attempts: retry.count("attempts")?,
            backoff,
            slowest,
            fastest,
            concurrency: view.count("concurrency")? as usize,
            timeout: view.duration("timeout")?,
            messages: view.count("messages")? as usize,
            bytes,
            message_bytes,
            remember: view.duration("remember")?,
            headers: self.kept_fields(view),
            credentials: view.truth("credentials") == Some(true),
            outcomes: outcomes(view),
            status_path: self.status_path(view, name),
        })
    }

    fn pace(&mut self, view: View<'_>) -> Option<(f64, f64)> {
        let rate = |key: &str| value::rate(view.text(key)?).ok();
        let (slowest, fastest) = (rate("slowest")?, rate("fastest")?);
        if slowest < 0.001 {
            let mend = "write at least `4/h`";
            let place = view.value_place("slowest");
            self.problem(place, "a queue would hardly ever ask", mend);
        }
        if slowest > fastest {
            let message = "the slowest pace is quicker than the fastest";
            let place = view.value_place("slowest");
            self.problem(place, message, "lower it, or raise `fastest`");
        }
        Some((slowest, fastest))
    }

    fn queue_key(&mut self, view: View<'_>) -> QueueKey {
        let part = view.given_part("key", section_of(&QUEUE, "key"));
        if let Some(part) = part {
            let name = part.text("header").unwrap_or_default();
            self.check_header(part, "header", name);
            return QueueKey::Header(name.to_ascii_lowercase());
        }
        match view.text("key") {
            Some("client") => QueueKey::Client,
            Some("path") => QueueKey::Path,
            _ => QueueKey::None,
        }
    }

    fn kept_fields(&mut self, view: View<'_>) -> Option<Vec<String>> {
        if !matches!(view.node_of("headers")?.value, Value::List(_)) {
            return None;
        }
        let names = view.texts("headers");
        for (name, place) in &names {
            if !crate::request::is_header_name(name) {
                let message = format!("`{name}` is no header name");
                self.problem(*place, message, "write one such as `X-Tenant`");
            }
        }
        let names = names.iter().map(|(name, _)| name.to_ascii_lowercase());
        Some(names.collect())
    }

    fn status_path(&mut self, view: View<'_>, name: &str) -> Option<String> {
        let Some(path) = view.text("status_path") else {
            return Some(format!("/queues/{name}"));
        };
        if path == "off" {
            return None;
        }
        if !is_start_of_path(path) || path.ends_with('/') {
            let message = format!("`{path}` is no path for a status");
            let mend = "write one such as `/queued`, or `off`";
            self.problem(view.value_place("status_path"), message, mend);
        }
        Some(path.to_owned())
    }

    /// Each queue that an upstream names is there, and no other upstream has it: the breaker of one would
    /// hold up what is for the other.
    fn check_users(&mut self, file: View<'_>, upstreams: &[Upstream]) {
        let known: Vec<&str> = file
            .names("queues")
            .iter()
            .map(|e| e.key.as_str())
            .collect();
        let entries = file.names("upstreams");
        for (at, (entry, upstream)) in entries.iter().zip(upstreams).enumerate() {
            let view = View::new(&entry.node, &UPSTREAM);
            for (policy, key, name) in [
                ("fallback", "queue", &upstream.fallback.queue),
                ("failover", "hold", &upstream.hold),
            ] {
                let Some(name) = name else {
                    continue;
                };
                let place = view
                    .part(policy, section_of(&UPSTREAM, policy))
                    .value_place(key);
                if !known.contains(&name.as_str()) {
                    let mend = match did_you_mean(name, known.iter().copied()) {
                        Some(word) => format!("did you mean `{word}`?"),
                        None => format!("add it: `queues: {{ {name}: {{}} }}`"),
                    };
                    self.problem(place, format!("there is no queue `{name}`"), mend);
                }
                let mut before = upstreams[..at].iter();
                let other = before.find(|other| uses(other).any(|used| used == name));
                if let Some(other) = other {
                    let message = format!("`{name}` is delivered to `{}` already", other.name);
                    self.problem(place, message, "give each upstream a queue of its own");
                }
            }
        }
    }

    /// The queue for what no provider takes.
    pub(super) fn hold(&mut self, view: View<'_>) -> Option<String> {
        let part = view.given_part("failover", section_of(&UPSTREAM, "failover"))?;
        let name = part.text("hold")?;
        if part.truth("enforce") == Some(false) {
            self.problem(
                part.place_of("hold"),
                "nothing is held where no failover is made",
                "leave `enforce: false` out, or `hold`",
            );
        }
        Some(name.to_owned())
    }
}

/// The queues of an upstream.
fn uses(upstream: &Upstream) -> impl Iterator<Item = &String> {
    upstream.fallback.queue.iter().chain(&upstream.hold)
}

/// Whether one status path is, or is below, the other.
fn overlap(one: &Queue, other: &Queue) -> bool {
    let below = |path: &str, of: &str| {
        path.strip_prefix(of)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match (&one.status_path, &other.status_path) {
        (Some(one), Some(other)) => below(one, other) || below(other, one),
        _ => false,
    }
}
