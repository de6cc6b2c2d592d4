//! From a checked tree to a plan, with everything that only the whole file can tell: names that
//! refer to each other, orders that must be complete, addresses that clash.

mod canary;
mod discover;
mod endpoint;
mod gateway;
mod queue;
mod redundancy;
mod route;
pub(crate) mod saga;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

use outlast_core::ratio::Ratio;

use crate::plan::{
    Answer, ClientTls, Endpoint, Fallback, Meaning, Plan, Pool, Protocol, RateKey, Secret, Stale,
    StatusOutcome, Upstream,
};
use crate::policies::{policies, section_of};
use crate::problem::{Place, Problem, did_you_mean};
use crate::view::View;
use crate::yaml::{Entry, Node, Value};
use crate::{degrade, request, sections, shape};

/// Reads a file; `folder` is what its paths are relative to.
pub(crate) fn plan(root: &Node, folder: &Path, problems: &mut Vec<Problem>) -> Plan {
    let file = View::new(root, &sections::FILE);
    let mut reader = Reader {
        folder,
        names: file
            .names("upstreams")
            .iter()
            .map(|entry| entry.key.as_str())
            .collect(),
        problems: &mut *problems,
    };
    let view = file.part("gateway", &sections::GATEWAY);
    let gateway = reader.gateway(view);
    reader.refuse_zero(view, "deadline");
    let deadline = view.duration("deadline");
    let routes = file
        .names("routes")
        .iter()
        .filter_map(|entry| reader.route(entry, deadline))
        .collect();
    let upstreams: Vec<_> = file
        .names("upstreams")
        .iter()
        .map(|entry| reader.upstream(entry))
        .collect();
    reader.refuse_cycles(&upstreams, file.names("upstreams"));
    reader.refuse_second_providers(&upstreams, file);
    let store = reader.store(file);
    let sagas = reader.sagas(file, gateway.admin.is_some());
    reader.refuse_split_queries(&upstreams, file);
    let queues = reader.queues(file, &upstreams, gateway.admin.is_some());
    let health = crate::health::health(file.part("health", &sections::HEALTH), folder, problems);
    let mut plan = Plan {
        gateway,
        routes,
        upstreams,
        health,
        degrade: None,
        store,
        sagas,
        queues,
    };
    plan.degrade = degrade::read(file, folder, &mut plan, problems);
    plan
}

struct Reader<'a, 'p> {
    folder: &'a Path,
    names: Vec<&'a str>,
    problems: &'p mut Vec<Problem>,
}

impl Reader<'_, '_> {
    fn problem(&mut self, place: Place, message: impl Into<String>, mend: impl Into<String>) {
        self.problems.push(Problem::new(place, message, mend));
    }

    fn path(&mut self, view: View<'_>, key: &str) -> Option<PathBuf> {
        Some(self.folder.join(view.text(key)?))
    }

    fn secret(&mut self, view: View<'_>) -> Option<Secret> {
        match (self.path(view, "file"), view.text("env")) {
            (Some(path), None) => Some(Secret::File(path)),
            (None, Some(name)) => Some(Secret::Environment(name.to_owned())),
            (Some(_), Some(_)) | (None, None) => {
                let place = view.node.map_or(Place::START, |node| node.place);
                self.problem(
                    place,
                    "a secret is kept in one place",
                    "give either `file` or `env`",
                );
                None
            }
        }
    }

    fn refuse_zero(&mut self, view: View<'_>, key: &str) {
        if view.duration(key) == Some(Duration::ZERO) {
            self.problem(
                view.value_place(key),
                "nothing ends in no time",
                "write a longer one, or `none`",
            );
        }
    }

    /// The position of an upstream that is named.
    fn upstream_named(&mut self, view: View<'_>, key: &str) -> Option<usize> {
        let name = view.text(key)?;
        let found = self.names.iter().position(|known| *known == name);
        if found.is_none() {
            let mend = match did_you_mean(name, self.names.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!(
                    "add it to `upstreams`, which has: {}",
                    self.names.join(", ")
                ),
            };
            self.problem(
                view.value_place(key),
                format!("there is no upstream `{name}`"),
                mend,
            );
        }
        found
    }

    fn upstream(&mut self, entry: &Entry) -> Upstream {
        let view = View::new(&entry.node, &sections::UPSTREAM);
        let discovery = self.discovery(view);
        let (endpoints, complete) = self.first_endpoints(entry, view, discovery.as_ref());
        for key in ["deadline", "timeout", "connect_timeout"] {
            self.refuse_zero(view, key);
        }
        let pool = view.part("pool", section_of(&sections::UPSTREAM, "pool"));
        let idempotency_key = view.text("idempotency_key").unwrap_or_default();
        self.check_header(view, "idempotency_key", idempotency_key);
        let tls = self.client_tls(view);
        let kept = endpoint::contents(&endpoints);
        let source = format!("{} {} {kept}", entry.node.canonical(), contents(&tls));
        Upstream {
            name: entry.key.clone(),
            policies: policies(&entry.key, &endpoints, view, complete, self.problems),
            protocol: match view.text("protocol") {
                Some("http1") => Protocol::Http1,
                Some("http2") => Protocol::Http2,
                _ => Protocol::Auto,
            },
            rate_key: self.rate_key(view),
            pool: Pool {
                idle: pool.count("idle").unwrap_or_default() as usize,
                idle_timeout: pool.duration("idle_timeout").unwrap_or_default(),
                max_lifetime: pool.duration("max_lifetime").unwrap_or_default(),
            },
            connect_timeout: view.duration("connect_timeout").unwrap_or_default(),
            replay_bytes: view.size("replay").unwrap_or_default(),
            idempotency_key: idempotency_key.to_ascii_lowercase(),
            outcomes: outcomes(view),
            exclusive: self.exclusive(view),
            fallback: self.fallback(view),
            hold: self.hold(view),
            affinity: self.affinity(view),
            check: self.check(view, &endpoints),
            target_utilisation: self.target(view),
            source,
            tls,
            endpoints,
            discovery,
        }
    }

    fn target(&mut self, view: View<'_>) -> Ratio {
        let target = view.share("target_utilisation").unwrap_or(Ratio::ONE);
        if target.as_f64() < 0.01 {
            self.problem(
                view.value_place("target_utilisation"),
                "nobody can pay for so many instances",
                "write a share from `1%` to `100%`",
            );
        }
        target
    }

    fn check_header(&mut self, view: View<'_>, key: &str, name: &str) {
        if !request::is_header_name(name) {
            self.problem(
                view.value_place(key),
                format!("`{name}` is no header name"),
                "write one such as `X-Tenant`",
            );
        }
    }

    /// The endpoints in the order of preference, if there is one.
    fn in_order(&mut self, view: View<'_>, mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
        let section = section_of(&sections::UPSTREAM, "failover");
        let order = match view.given_part("failover", section) {
            Some(part) => part.texts("order"),
            None if view.node_of("failover").is_some() => view.texts("failover"),
            None => return endpoints,
        };
        let place = view.place_of("failover");
        if endpoints.len() < given_endpoints(view) {
            // A URL that could not be read has been reported.
            return endpoints;
        }
        let mut ordered: Vec<Endpoint> = Vec::new();
        for (name, place) in order {
            match endpoints.iter().position(|endpoint| endpoint.name == name) {
                Some(at) => ordered.push(endpoints.remove(at)),
                None if ordered.iter().any(|endpoint| endpoint.name == name) => {
                    self.problem(
                        place,
                        format!("`{name}` is named twice"),
                        "leave one of them out",
                    );
                }
                None => {
                    let names = endpoints.iter().map(|endpoint| endpoint.name.as_str());
                    let mend = match did_you_mean(name, names.clone()) {
                        Some(word) => format!("did you mean `{word}`?"),
                        None => format!(
                            "the endpoints are: {}",
                            names.collect::<Vec<_>>().join(", ")
                        ),
                    };
                    self.problem(place, format!("there is no endpoint `{name}`"), mend);
                }
            }
        }
        if let Some(left) = endpoints.first() {
            let message = format!("the order leaves `{}` out", left.name);
            self.problem(place, message, "name all endpoints, or remove that one");
        }
        ordered.extend(endpoints);
        ordered
    }

    fn client_tls(&mut self, view: View<'_>) -> ClientTls {
        let view = view.part("tls", section_of(&sections::UPSTREAM, "tls"));
        let identity = match (self.path(view, "certificate"), self.path(view, "key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let place = view.node.map_or(Place::START, |node| node.place);
                self.problem(
                    place,
                    "a certificate needs its key, and a key its certificate",
                    "give both `certificate` and `key`",
                );
                None
            }
        };
        ClientTls {
            roots: self.path(view, "roots"),
            server_name: view.text("server_name").map(str::to_owned),
            identity,
        }
    }

    fn rate_key(&mut self, view: View<'_>) -> RateKey {
        let section = section_of(&sections::UPSTREAM, "rate");
        let rate = view.part("rate", section);
        if rate.node_of("per_key").is_none() {
            return RateKey::Shared;
        }
        let part = rate.part("per_key", section_of(section, "per_key"));
        match part.text("header") {
            None => RateKey::Client,
            Some(name) => {
                self.check_header(part, "header", name);
                RateKey::Header(name.to_ascii_lowercase())
            }
        }
    }

    fn fallback(&mut self, view: View<'_>) -> Fallback {
        let section = section_of(&sections::UPSTREAM, "fallback");
        let view = view.part("fallback", section);
        self.refuse_zero(view, "stale");
        let stale = view.part("stale", section_of(section, "stale"));
        let max_age = view.duration("stale").or_else(|| stale.duration("max_age"));
        let fixed = view.given_part("static", section_of(section, "static"));
        Fallback {
            stale: max_age.map(|max_age| Stale {
                max_age,
                bytes: stale.size("bytes").unwrap_or(64 << 20),
                entry_bytes: stale.size("entry_bytes").unwrap_or(1 << 20),
            }),
            upstream: self.upstream_named(view, "upstream"),
            queue: view.text("queue").map(str::to_owned),
            fixed: fixed.map(|fixed| self::fixed(fixed, self.problems)),
            shadow: view.truth("enforce") == Some(false),
        }
    }

    /// A fallback that leads back to where it began would never answer.
    fn refuse_cycles(&mut self, upstreams: &[Upstream], entries: &[Entry]) {
        for (start, entry) in entries.iter().enumerate() {
            let mut at = start;
            for _ in 0..upstreams.len() {
                let Some(next) = upstreams
                    .get(at)
                    .and_then(|upstream| upstream.fallback.upstream)
                else {
                    break;
                };
                at = next;
                if at == start {
                    let message = format!("the fallback of `{}` leads back to it", entry.key);
                    self.problem(
                        entry.key_place,
                        message,
                        "let the last upstream of the chain have none, or a static one",
                    );
                    break;
                }
            }
        }
    }
}

/// A fixed answer.
pub(crate) fn fixed(view: View<'_>, problems: &mut Vec<Problem>) -> Answer {
    let mut headers = Vec::new();
    for entry in view.names("headers") {
        let Value::Scalar(value) = &entry.node.value else {
            continue;
        };
        if !request::is_header_name(&entry.key) || !request::is_header_value(value) {
            let mend = "a name of letters and `-`, a value of plain text";
            problems.push(Problem::new(
                entry.key_place,
                "this is no header field",
                mend,
            ));
        }
        headers.push((entry.key.to_ascii_lowercase(), value.clone()));
    }
    Answer {
        status: view
            .count("status")
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(200),
        headers,
        body: view.text("body").unwrap_or_default().to_owned(),
    }
}

fn is_start_of_path(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
    text.starts_with('/') && !text.contains("//") && text.bytes().all(fine)
}

fn given_endpoints(view: View<'_>) -> usize {
    match view.node_of("endpoints").map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.len(),
        Some(Value::List(items)) => items.len(),
        Some(Value::Scalar(_)) => 1,
        Some(Value::Empty) | None => 0,
    }
}

fn outcomes(view: View<'_>) -> Vec<StatusOutcome> {
    let outcome = |entry: &Entry| {
        let (from, to) = shape::statuses(&entry.key)?;
        let Value::Scalar(means) = &entry.node.value else {
            return None;
        };
        let means = match means.as_str() {
            "success" => Meaning::Success,
            "transient" => Meaning::Transient,
            "permanent" => Meaning::Permanent,
            "overload" => Meaning::Overload,
            "ignored" => Meaning::Ignored,
            _ => return None,
        };
        Some(StatusOutcome { from, to, means })
    };
    let mut outcomes: Vec<_> = view.names("outcomes").iter().filter_map(outcome).collect();
    // The narrowest range counts.
    outcomes.sort_by_key(|outcome| outcome.to - outcome.from);
    outcomes
}

/// What the files of an upstream hold: new certificates make it another one.
fn contents(tls: &ClientTls) -> String {
    let identity = tls
        .identity
        .iter()
        .flat_map(|(certificate, key)| [certificate, key]);
    let hashes: Vec<_> = tls.roots.iter().chain(identity).map(hash_of).collect();
    hashes.join(" ")
}

fn hash_of(path: &PathBuf) -> String {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let hash = std::fs::read(path).map_or(0, |bytes| hasher.hash_one(bytes));
    format!("{hash:016x}")
}
