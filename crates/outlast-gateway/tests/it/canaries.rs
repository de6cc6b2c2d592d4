//! A new version beside the old one.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use outlast_gateway::{CanaryStatus, Gateway};
use tracing::field::{Field, Visit};

use crate::support::{
    Client, Load, Upstream, curl, free_address, gateway, read, status, url, wait_until,
};

/// A route to `blue`, whose new version is `green`, with these settings.
fn plan(canary: &str) -> String {
    format!(
        "
gateway: {{ listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 2, deadline: 5s }}
routes: {{ shop: {{ match: /**, upstream: blue, canary: {{ upstream: green, {canary} }} }} }}
upstreams:
  blue: {{ endpoints: http://{{}} }}
  green: {{ endpoints: http://{{}} }}
"
    )
}

fn canary(gateway: &Gateway) -> CanaryStatus {
    let mut routes = gateway.status().routes;
    routes.remove(0).canary.expect("the route has a canary")
}

fn state(gateway: &Gateway) -> &'static str {
    canary(gateway).state
}

fn decisions(gateway: &Gateway) -> Vec<String> {
    let decisions = canary(gateway).decisions.into_iter();
    decisions.map(|decision| decision.text).collect()
}

/// What `POST /routes/NAME/canary` says to a body.
fn post(gateway: &Gateway, route: &str, body: &str) -> (u16, serde_json::Value) {
    let address = gateway.admin_address().unwrap();
    let answer = curl(&[
        "-d",
        body,
        &format!("http://{address}/routes/{route}/canary"),
    ]);
    (answer.status, answer.json())
}

/// Does this with the canary of `shop`, which has to make sense.
fn act(gateway: &Gateway, action: &str) {
    let (status, answer) = post(gateway, "shop", &format!("{{\"action\":\"{action}\"}}"));
    assert_eq!(status, 200, "{answer}");
}

/// The users that an upstream has seen since it had seen `before` requests.
fn users(upstream: &Upstream, before: usize) -> BTreeSet<String> {
    let seen = upstream.seen().split_off(before);
    let users = seen.iter().map(|seen| seen.headers["x-user"].clone());
    users.collect()
}

fn ask_as(client: &mut Client, user: u32) {
    assert_eq!(client.ask_with(&format!("X-User: user-{user}\r\n")), 200);
}

#[test]
fn traffic_is_split_by_the_share_and_users_stay_where_they_are() {
    let (blue, green) = (Upstream::start(), Upstream::start());
    let settings =
        "steps: [30%, 60%, 100%], sticky: { header: X-User }, promote: manual, slower: off";
    let gateway = gateway(&plan(settings), &[blue.address, green.address]);
    let url = url(&gateway, "/");
    // Each user on two connections, so that workers agree.
    let all = |clients: &mut [Client; 2]| {
        for user in 0..400 {
            clients.iter_mut().for_each(|client| ask_as(client, user));
        }
    };
    let mut clients = [Client::new(&url), Client::new(&url)];
    all(&mut clients);
    let (old, new) = (users(&blue, 0), users(&green, 0));
    assert!(old.is_disjoint(&new));
    assert_eq!(old.len() + new.len(), 400);
    // Five standard deviations.
    assert!((75..=165).contains(&new.len()), "{} at 30%", new.len());
    act(&gateway, "promote");
    let (before_old, before_new) = (blue.seen().len(), green.seen().len());
    all(&mut clients);
    let (later_old, later_new) = (users(&blue, before_old), users(&green, before_new));
    assert!(later_old.is_disjoint(&later_new));
    assert!(new.is_subset(&later_new), "nobody went back");
    assert!(
        (190..=290).contains(&later_new.len()),
        "{} at 60%",
        later_new.len()
    );
    // Without the header it is the address that counts, and all of these have the same.
    let (before_old, before_new) = (blue.seen().len(), green.seen().len());
    for _ in 0..50 {
        assert_eq!(clients[0].ask(), 200);
        assert_eq!(clients[1].ask(), 200);
    }
    let grown = [
        blue.seen().len() - before_old,
        green.seen().len() - before_new,
    ];
    assert!(grown == [0, 100] || grown == [100, 0], "{grown:?}");
}

/// Answers every so-manieth request with 500.
fn failing_every(nth: u64) -> Upstream {
    let count = AtomicU64::new(0);
    Upstream::answering(
        move |_| match (count.fetch_add(1, Ordering::Relaxed) + 1) % nth {
            0 => status(500),
            _ => Response::new(Body::from("ok")),
        },
    )
}

#[test]
fn one_that_fails_a_hundred_times_as_often_is_rolled_back_within_a_minute() {
    let log = log();
    let (blue, green) = (failing_every(1000), failing_every(10));
    let settings = "steps: [10%, 100%], sticky: off, slower: off";
    let text = plan(settings).replace("shop:", "tenth:");
    let gateway = gateway(&text, &[blue.address, green.address]);
    let mut client = Client::new(&url(&gateway, "/"));
    let begin = Instant::now();
    let mut next = begin;
    let mut asked: usize = 0;
    while state(&gateway) == "running" {
        assert!(begin.elapsed() < Duration::from_secs(60));
        client.ask();
        asked += 1;
        next += Duration::from_millis(10);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let now = canary(&gateway);
    assert_eq!((now.state, now.share), ("rolled_back", 0.0));
    let text = &decisions(&gateway)[0];
    assert!(
        text.starts_with("rolled back: errors beyond the allowed"),
        "{text}"
    );
    assert_eq!(now.decisions[0].what, "rolled_back");
    assert_eq!(blue.seen().len() + green.seen().len(), asked);
    let served = green.seen().len();
    for _ in 0..200 {
        client.ask();
    }
    assert_eq!(green.seen().len(), served, "all traffic is at the old one");
    let told = log.lines_of("tenth");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0],
        (tracing::Level::INFO, "a rollout begins at 10%".to_owned())
    );
    assert_eq!(told[1], (tracing::Level::WARN, text.clone()));
}

#[test]
fn what_stands_in_for_a_dead_version_does_not_hide_it() {
    let blue = Upstream::start();
    let settings = "steps: [20%, 100%], sticky: off";
    let text = plan(settings).replace(
        "green: { endpoints: http://{} }",
        "green: { endpoints: http://{}, breaker: { consecutive: 100 }, fallback: { upstream: blue } }",
    );
    let gateway = gateway(&text, &[blue.address, free_address()]);
    let load = Load::start(&url(&gateway, "/"), 2);
    wait_until("it is rolled back", || state(&gateway) == "rolled_back");
    let results = load.end();
    assert!(results.iter().all(|(status, _)| *status == 200));
    let now = canary(&gateway);
    assert_eq!(now.canary.calls, now.canary.errors);
    assert!(now.canary.errors > 0);
    assert_eq!(now.baseline.errors, 0);
}

#[test]
fn a_version_that_hangs_is_noticed_although_its_clients_leave() {
    let (blue, green) = (Upstream::start(), Upstream::start());
    green.hangs(true);
    let settings = "steps: [50%, 100%], sticky: off";
    let gateway = gateway(&plan(settings), &[blue.address, green.address]);
    let url = url(&gateway, "/");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    curl(&["--max-time", "1.2", &url]);
                }
            });
        }
        let given_up = Instant::now() + Duration::from_secs(20);
        while state(&gateway) == "running" && Instant::now() < given_up {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let told = decisions(&gateway);
    assert!(told[0].starts_with("rolled back: errors"), "{told:?}");
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    let blue = Upstream::start();
    let green = breaking_off();
    let settings = "steps: [50%, 100%], sticky: off";
    let gateway = gateway(&plan(settings), &[blue.address, green]);
    let load = Load::start(&url(&gateway, "/"), 2);
    wait_until("it is rolled back", || state(&gateway) == "rolled_back");
    load.end();
    let now = canary(&gateway).canary;
    assert!(now.errors > 0 && now.errors == now.calls, "{now:?}");
}

/// Sends a head and a part of the body, and a moment later closes.
fn breaking_off() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
                std::thread::sleep(Duration::from_millis(30));
            });
        }
    });
    address
}

#[test]
fn rejections_of_our_own_are_no_errors() {
    let (blue, green) = (Upstream::start(), Upstream::start());
    let settings = "steps: [50%, 100%], sticky: off, slower: off";
    let text = plan(settings).replace(
        "green: { endpoints: http://{} }",
        "green: { endpoints: http://{}, rate: { calls: 1, per: 10s, burst: 20 } }",
    );
    let gateway = gateway(&text, &[blue.address, green.address]);
    let load = Load::start(&url(&gateway, "/"), 2);
    wait_until("some were compared and many rejected", || {
        let status = gateway.status();
        canary(&gateway).canary.calls >= 20 && status.routes[0].requests["4xx"] > 100
    });
    load.end();
    let now = canary(&gateway);
    assert_eq!((now.state, now.canary.errors), ("running", 0));
    assert!(now.canary.calls < 40, "{now:?}");
}

#[test]
fn a_good_one_takes_over_step_by_step() {
    let (blue, green) = (Upstream::start(), Upstream::start());
    let settings = "steps: [25%, 50%, 100%], sticky: off, min_time: 1s, watch: 1s, slower: off, worsening: { absolute: 10% }";
    let gateway = gateway(&plan(settings), &[blue.address, green.address]);
    let load = Load::start(&url(&gateway, "/"), 4);
    wait_until("it is done", || state(&gateway) == "done");
    let served = blue.seen().len();
    let more = green.seen().len() + 100;
    wait_until("requests go on", || green.seen().len() > more);
    assert_eq!(blue.seen().len(), served);
    assert!(load.end().iter().all(|(status, _)| *status == 200));
    let told = decisions(&gateway);
    let begins = [
        "promoted to 50%: no worse than allowed; canary 0 of ",
        "promoted to 100%: no worse than allowed; canary 0 of ",
        "done: nothing wrong while it was watched alone; canary 0 of ",
    ];
    assert_eq!(told.len(), 3, "{told:?}");
    for (told, begin) in told.iter().zip(begins) {
        assert!(told.starts_with(begin), "{told}");
    }
    let page = curl(&[&format!(
        "http://{}/metrics",
        gateway.admin_address().unwrap()
    )])
    .text();
    for line in [
        "outlast_canary_share{route=\"shop\"} 1",
        "outlast_canary_state{route=\"shop\",state=\"done\"} 1",
        "outlast_canary_state{route=\"shop\",state=\"running\"} 0",
        "outlast_canary_errors_total{route=\"shop\",side=\"canary\"} 0",
        "outlast_canary_decisions_total{route=\"shop\",decision=\"promoted\"} 2",
        "outlast_canary_decisions_total{route=\"shop\",decision=\"rolled_back\"} 0",
    ] {
        assert!(page.lines().any(|known| known == line), "{line}: {page}");
    }
    let count = |side: &str| -> u64 {
        let start = format!("outlast_canary_calls_total{{route=\"shop\",side=\"{side}\"}} ");
        let mut lines = page.lines();
        let count = lines.find_map(|line| line.strip_prefix(&start));
        count.unwrap().parse().unwrap()
    };
    assert_eq!(count("baseline"), served as u64, "all of them, ever");
    assert!(count("canary") > 100);
}

#[test]
fn operators_pause_resume_abort_and_restart() {
    let (blue, green) = (Upstream::start(), Upstream::start());
    let text = plan("steps: [50%, 100%], sticky: off, slower: off").replace(
        "routes: {",
        "routes: { plain: { match: /plain, upstream: blue },",
    );
    let gateway = gateway(&text, &[blue.address, green.address]);
    let canary = || gateway.status().routes.remove(1).canary.unwrap();
    let post = |route: &str, body: &str| {
        let (status, answer) = post(&gateway, route, body);
        let detail = answer["detail"].as_str().unwrap_or_default().to_owned();
        (status, detail)
    };
    let act = |action: &str| post("shop", &format!("{{\"action\":\"{action}\"}}"));
    let conflict = |detail: &str| (409, format!("the canary of \"shop\": {detail}"));
    assert_eq!(act("resume"), conflict("it is not paused"));
    assert_eq!(act("restart"), conflict("it is not over; `abort` it first"));
    assert_eq!(act("pause").0, 200);
    assert_eq!(canary().state, "paused");
    assert_eq!(act("pause"), conflict("it is paused already"));
    let split = |client: &mut Client| {
        let (old, new) = (blue.seen().len(), green.seen().len());
        (0..100).for_each(|_| assert_eq!(client.ask(), 200));
        [blue.seen().len() - old, green.seen().len() - new]
    };
    let mut client = Client::new(&url(&gateway, "/"));
    assert!(split(&mut client).iter().all(|&count| count >= 25), "half");
    assert_eq!(act("resume").0, 200);
    assert_eq!(canary().state, "running");
    assert_eq!(act("abort").0, 200);
    assert_eq!((canary().state, canary().share), ("rolled_back", 0.0));
    assert_eq!(split(&mut client), [100, 0]);
    for action in ["promote", "pause", "resume", "abort"] {
        assert_eq!(
            act(action),
            conflict("it is over; `restart` begins again"),
            "{action}"
        );
    }
    assert_eq!(act("restart").0, 200);
    assert_eq!((canary().state, canary().share), ("running", 0.5));
    assert_eq!(act("promote").0, 200);
    assert_eq!((canary().state, canary().share), ("promoting", 1.0));
    assert_eq!(split(&mut client), [0, 100]);
    let whats: Vec<_> = canary().decisions.iter().map(|told| told.what).collect();
    let expected = ["paused", "resumed", "rolled_back", "restarted", "promoted"];
    assert_eq!(whats, expected);
    assert_eq!(
        post("plain", "{\"action\":\"pause\"}"),
        (404, "the route \"plain\" has no canary".to_owned())
    );
    assert_eq!(
        post("nobody", "{\"action\":\"pause\"}"),
        (404, "there is no route \"nobody\"".to_owned())
    );
    for bad in [
        "",
        "{}",
        "{\"action\":\"stop\"}",
        "{\"action\":\"pause\",\"x\":1}",
    ] {
        let (status, detail) = post("shop", bad);
        assert_eq!(status, 400, "{bad}");
        assert!(detail.contains("send {\"action\": \"promote\""), "{detail}");
    }
}

#[test]
fn an_operator_has_to_show_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let admin = format!(
        "admin: {{ address: '127.0.0.1:0', token: {{ file: {} }} }}",
        token.display()
    );
    let text = plan("steps: [50%, 100%]").replace("admin: 127.0.0.1:0", &admin);
    let gateway = gateway(&text, &[free_address(), free_address()]);
    assert_eq!(post(&gateway, "shop", "{\"action\":\"abort\"}").0, 401);
    assert_eq!(state(&gateway), "running");
}

#[test]
fn a_reload_keeps_it_while_its_section_is_the_same() {
    let log = log();
    let (blue, green) = (Upstream::start(), Upstream::start());
    let addresses = [blue.address, green.address];
    let plan = plan("steps: [10%, 50%, 100%], sticky: off, promote: manual, slower: off")
        .replace("shop:", "kept:");
    let gateway = gateway(&plan, &addresses);
    let (status, answer) = post(&gateway, "kept", "{\"action\":\"promote\"}");
    assert_eq!(
        (status, answer["canary"]["share"].as_f64()),
        (200, Some(0.5))
    );
    // Another upstream before it moves the places of all.
    let moved = plan.replace(
        "upstreams:",
        "upstreams:\n  first: { endpoints: http://127.0.0.1:1 }",
    );
    gateway.reload(read(&moved, &addresses)).unwrap();
    let now = canary(&gateway);
    assert_eq!((now.share, now.decisions.len()), (0.5, 1));
    let mut client = Client::new(&url(&gateway, "/"));
    (0..100).for_each(|_| assert_eq!(client.ask(), 200));
    assert!(blue.seen().len() >= 25 && green.seen().len() >= 25);
    let changed = moved.replace("promote: manual", "promote: manual, limit: 2h");
    gateway.reload(read(&changed, &addresses)).unwrap();
    let now = canary(&gateway);
    assert_eq!((now.share, now.decisions.len()), (0.1, 0));
    let removed = plan.split_once(", canary: {").unwrap().0;
    let rest = plan.split_once("upstreams:").unwrap().1;
    let gone = format!("{removed} }} }}\nupstreams:{rest}");
    gateway.reload(read(&gone, &addresses)).unwrap();
    assert!(gateway.status().routes[0].canary.is_none());
    let told: Vec<_> = log
        .lines_of("kept")
        .into_iter()
        .map(|told| told.1)
        .collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(told[0], "a rollout begins at 10%");
    assert!(told[1].starts_with("promoted to 50%: by hand"));
    assert_eq!(
        told[2],
        "its section has changed: the rollout begins anew at 10%"
    );
    assert_eq!(
        told[3],
        "a rollout was taken out of the file; it was running"
    );
}

#[test]
fn blue_green_switches_by_hand_and_goes_back_by_itself() {
    let (blue, green) = (Upstream::start(), Upstream::start());
    let gateway = gateway(&plan("kind: blue_green"), &[blue.address, green.address]);
    let load = Load::start(&url(&gateway, "/"), 2);
    wait_until("the old version is known", || {
        canary(&gateway).baseline.calls > 500
    });
    assert!(green.seen().is_empty());
    act(&gateway, "promote");
    wait_until("the new one serves", || green.seen().len() > 100);
    let served = blue.seen().len();
    green.answers(|_| status(500));
    wait_until("it is rolled back", || state(&gateway) == "rolled_back");
    wait_until("the old one serves again", || blue.seen().len() > served);
    load.end();
    let told = decisions(&gateway);
    assert!(told[0].starts_with("promoted to 100%: by hand"), "{told:?}");
    assert!(told[1].starts_with("rolled back: errors"), "{told:?}");
}

const GUIDE: &str = include_str!("../../../../docs/canary.md");

/// The first block of the guide in this language.
fn block(language: &str) -> &'static str {
    let rest = GUIDE.split_once(&format!("```{language}\n")).unwrap().1;
    rest.split_once("```").unwrap().0
}

#[test]
fn the_guide_does_what_it_says() {
    let (blue, green) = (Upstream::start(), Upstream::start());
    let text = block("yaml")
        .replace("127.0.0.1:7001", &blue.address.to_string())
        .replace("127.0.0.1:7002", &green.address.to_string())
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:9900", "127.0.0.1:0");
    let gateway = gateway(&text, &[]);
    let mut client = Client::new(&url(&gateway, "/shop/cart"));
    (0..200).for_each(|user| ask_as(&mut client, user));
    let admin = gateway.admin_address().unwrap().to_string();
    let states = block("sh").lines().map(|line| {
        let line = line.replace("127.0.0.1:9900", &admin);
        let shell = ["-c", &format!("{line} --fail --noproxy '*'")];
        let output = std::process::Command::new("sh").args(shell).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        let now = canary(&gateway);
        format!("{} {}", now.state, now.share)
    });
    assert_eq!(
        states.collect::<Vec<_>>(),
        [
            "running 0.01",
            "paused 0.01",
            "running 0.01",
            "running 0.05",
            "rolled_back 0",
            "running 0.01"
        ]
    );
    let told: serde_json::Value = serde_json::from_str(block("json")).unwrap();
    let real = serde_json::to_value(canary(&gateway)).unwrap();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        let object = value.as_object().unwrap();
        object.keys().cloned().collect()
    };
    assert_eq!(keys(&told), keys(&real));
    assert_eq!(keys(&told["canary"]), keys(&real["canary"]));
    assert_eq!(keys(&told["decisions"][0]), keys(&real["decisions"][0]));
}

/// Log lines about rollouts: route, level, message.
struct Log(Mutex<Vec<(String, tracing::Level, String)>>);

impl Log {
    fn lines_of(&self, route: &str) -> Vec<(tracing::Level, String)> {
        let lines = self.0.lock().unwrap();
        let own = lines.iter().filter(|(of, _, _)| of == route);
        own.map(|(_, level, text)| (*level, text.clone())).collect()
    }
}

static LOG: Log = Log(Mutex::new(Vec::new()));

/// What is logged from now on, by all tests of this process.
fn log() -> &'static Log {
    static START: Once = Once::new();
    START.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
    &LOG
}

struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "outlast_gateway::rollout"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        #[derive(Default)]
        struct Fields {
            route: String,
            message: String,
        }
        impl Visit for Fields {
            fn record_str(&mut self, field: &Field, value: &str) {
                if field.name() == "route" {
                    value.clone_into(&mut self.route);
                }
            }
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.message = format!("{value:?}");
                }
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = (fields.route, *event.metadata().level(), fields.message);
        LOG.0.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
