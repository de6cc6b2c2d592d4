//! Sagas of a policy file, with a real gateway and five services that keep ledgers.

pub(crate) mod clock;
pub(crate) mod disk;
mod keeps;
mod poison;
pub(crate) mod shared;
mod stories;
mod versions;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serve::free;
use crate::{outlast, text, wait_until};

const STEPS: [&str; 5] = ["create", "reserve", "charge", "ship", "notify"];
const SERVICES: [&str; 5] = ["orders", "inventory", "payment", "shipping", "mail"];

/// Five services and a gateway, in a folder.
struct Shop {
    folder: tempfile::TempDir,
    services: Vec<Child>,
    gateway: Option<Child>,
    admin: SocketAddr,
    /// What runs the gateway: a program and its first arguments, if anything does.
    runs: Vec<String>,
}

impl Drop for Shop {
    fn drop(&mut self) {
        for child in self.services.iter_mut().chain(&mut self.gateway) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Shop {
    fn open() -> Shop {
        Shop::open_with(tempfile::tempdir().unwrap(), Vec::new(), str::to_owned)
    }

    /// Whose steps may take as long as a busy machine needs.
    fn patient() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        Shop::open_with(folder, Vec::new(), |plan| {
            plan.replace("timeout: 1s", "timeout: 20s")
        })
    }

    /// With a plan that is a little different, and something that runs the gateway.
    fn open_with(
        folder: tempfile::TempDir,
        runs: Vec<String>,
        change: impl Fn(&str) -> String,
    ) -> Shop {
        let addresses = SERVICES.map(|_| free());
        let admin = free();
        let plan = change(&Shop::plan(&addresses, admin));
        Shop::run_by(runs, folder, addresses, admin, &plan)
    }

    /// A gateway's policy file.
    fn plan(addresses: &[SocketAddr; 5], admin: SocketAddr) -> String {
        let upstreams: Vec<_> = SERVICES
            .iter()
            .zip(addresses)
            .map(|(name, address)| format!("  {name}: {{ endpoints: http://{address} }}\n"))
            .collect();
        let steps: Vec<_> = STEPS
            .iter()
            .zip(SERVICES)
            .map(|(step, upstream)| {
                let undo = match *step {
                    "notify" => "          best_effort: true\n".to_owned(),
                    _ => format!(
                        "          undo:
            request: DELETE /{step}/{{{{ steps.{step}.output.id? }}}}x
            retry: {{ attempts: 3, backoff: 20ms }}\n"
                    ),
                };
                format!(
                    "        - name: {step}
          upstream: {upstream}
          request: POST /{step}/{{{{ saga.id }}}}?item={{{{ input.item }}}}
          body: {{ count: '{{{{ input.count? }}}}', how: '{{{{ input.how? }}}}' }}
          headers: {{ x-item: 'item {{{{ input.item }}}}' }}
          timeout: 1s
          retry: {{ attempts: 2, backoff: 50ms }}\n{undo}"
                )
            })
            .collect();
        format!(
            "gateway: {{ listen: {}, admin: {admin}, workers: 2, drain: 5s }}
upstreams:\n{}sagas:
  limits: {{ bytes: 64KiB }}
  definitions:
    order:
      version: 1
      steps:\n{}",
            free(),
            upstreams.concat(),
            steps.concat()
        )
    }

    fn with(
        folder: tempfile::TempDir,
        addresses: [SocketAddr; 5],
        admin: SocketAddr,
        plan: &str,
    ) -> Shop {
        Shop::run_by(Vec::new(), folder, addresses, admin, plan)
    }

    fn run_by(
        runs: Vec<String>,
        folder: tempfile::TempDir,
        addresses: [SocketAddr; 5],
        admin: SocketAddr,
        plan: &str,
    ) -> Shop {
        std::fs::write(folder.path().join("outlast.yaml"), plan).unwrap();
        let service = |(name, address): (&&str, &SocketAddr)| {
            let service = Command::new("python3")
                .arg(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/tests/it/saga_service.py"
                ))
                .arg(address.port().to_string())
                .arg(folder.path().join(name))
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            wait_until("it listens", || TcpStream::connect(address).is_ok());
            service
        };
        let services = SERVICES.iter().zip(&addresses).map(service).collect();
        let mut shop = Shop {
            folder,
            services,
            gateway: None,
            admin,
            runs,
        };
        shop.serve();
        shop
    }

    fn serve(&mut self) {
        self.gateway = Some(serve(
            &self.runs,
            self.folder.path(),
            "outlast.yaml",
            self.admin,
        ));
    }

    /// As `kill -9`.
    fn kill(&mut self) {
        let mut gateway = self.gateway.take().unwrap();
        gateway.kill().unwrap();
        gateway.wait().unwrap();
    }

    fn ledger(&self, service: &str) -> PathBuf {
        self.folder.path().join(service)
    }

    /// What all services did for a saga, each in its order.
    fn books(&self, id: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (service, step) in SERVICES.iter().zip(STEPS) {
            let lines = std::fs::read_to_string(self.ledger(service)).unwrap_or_default();
            let (done, undone) = (format!("do {id}/{step}"), format!("undo {id}/{step}"));
            let own = lines
                .lines()
                .filter(|line| *line == done || *line == undone);
            found.extend(own.map(str::to_owned));
        }
        found
    }

    /// What all services did for a saga, in the order in which they did it.
    fn story(&self, id: &str) -> Vec<String> {
        let all = std::fs::read_to_string(self.ledger("all")).unwrap_or_default();
        let of = |line: &&str| line.split([' ', '/']).nth(1) == Some(id);
        all.lines().filter(of).map(str::to_owned).collect()
    }

    /// Waits until a saga is in a state.
    fn until(&self, id: &str, state: &str) -> Value {
        let mut saga = Value::Null;
        wait_until(&format!("{id} is {state}"), || {
            saga = self.ask("GET", &format!("/sagas/{id}"), "").1;
            saga["state"] == state
        });
        saga
    }

    /// Begins an order; its answer.
    fn begin(&self, id: &str, item: &str, how: &str) -> Value {
        let input = json!({ "item": item, "how": how }).to_string();
        let (status, told) = self.ask("POST", &format!("/sagas/order?id={id}"), &input);
        assert_eq!(status, 202, "{told}");
        told
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.ask_with(method, path, "", body).unwrap()
    }

    fn ask_with(&self, method: &str, path: &str, fields: &str, body: &str) -> Option<(u16, Value)> {
        ask_at(self.admin, method, path, fields, body)
    }

    /// Starts an order and waits for its end.
    fn order(&self, id: &str, how: &str) -> Value {
        let input = json!({ "item": "a/book", "count": 2, "how": how });
        let path = format!("/sagas/order?id={id}&wait=20s");
        let (status, told) = self.ask("POST", &path, &input.to_string());
        assert!([200, 202].contains(&status), "{told}");
        self.ask("GET", &format!("/sagas/{id}"), "").1
    }
}

/// A gateway that serves a policy file of a folder.
fn serve(runs: &[String], folder: &Path, plan: &str, admin: SocketAddr) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"));
    let own = [env!("CARGO_BIN_EXE_outlast"), "serve", plan];
    let mut words = runs.iter().map(String::as_str).chain(own);
    let gateway = Command::new(words.next().unwrap())
        .args(words)
        .current_dir(folder)
        .stderr(log.unwrap())
        .spawn();
    wait_until("it serves", || TcpStream::connect(admin).is_ok());
    gateway.unwrap()
}

fn ask_at(
    admin: SocketAddr,
    method: &str,
    path: &str,
    fields: &str,
    body: &str,
) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(admin).ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    // It may be refused before all of it is read.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n")?.1;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

fn lines(prefix: &str, id: &str, steps: &[&str]) -> Vec<String> {
    let line = |step: &&str| format!("{prefix} {id}/{step}");
    steps.iter().map(line).collect()
}

#[test]
fn an_order_is_done_or_undone() {
    let shop = Shop::open();
    let check = |id: &str, how: &str, state: &str, done: &[&str], undone: &[&str]| {
        let order = shop.order(id, how);
        assert_eq!(order["state"], state, "{order}");
        let mut expected = Vec::new();
        for step in done {
            expected.extend(lines("do", id, &[step]));
            if undone.contains(step) {
                expected.extend(lines("undo", id, &[step]));
            }
        }
        assert_eq!(shop.books(id), expected, "{id}");
        order
    };
    let fine = check("fine", "", "completed", &STEPS, &[]);
    assert_eq!(fine["steps"][2]["output"]["id"], "charge-of-fine");
    // A place alone keeps its type, and what lacks is nothing.
    let got = &fine["steps"][2]["output"]["got"];
    assert_eq!(got, &json!({ "count": 2, "how": "" }));

    let no = check("no", "ship:no", "compensated", &STEPS[..3], &STEPS[..3]);
    let cause = json!({ "cause": "step", "step": "ship" });
    assert_eq!(no["cause"], cause, "{no}");
    let error = no["steps"][3]["error"].as_str().unwrap();
    assert_eq!(
        error,
        "shipping answered 422 Unprocessable Entity: {\"error\": \"ship says no\"}"
    );
    let (_, log) = shop.ask("GET", "/sagas/no/log", "");
    let events = log["records"].as_array().unwrap().iter();
    let events = events.flat_map(|record| record["events"].as_array().unwrap());
    let undone: Vec<_> = events
        .filter(|event| event["event"] == "undone")
        .map(|event| event["step"].as_str().unwrap())
        .collect();
    assert_eq!(undone, ["charge", "reserve", "create"]);

    let quiet = check("quiet", "notify:down", "completed", &STEPS[..4], &[]);
    assert_eq!(quiet["steps"][4]["state"], "skipped");

    let late = check("late", "ship:down", "compensated", &STEPS[..3], &STEPS[..3]);
    assert_eq!(late["steps"][3]["attempts"], 2);
}

/// The payment is charged, and nobody hears of it: it is given back as if it had been heard of.
#[test]
fn what_is_not_known_is_undone_as_if_it_were_done() {
    let shop = Shop::open();
    let plan = shop.folder.path().join("outlast.yaml");
    let asked_once = std::fs::read_to_string(&plan).unwrap();
    let asked_once = asked_once.replace("attempts: 2, backoff: 50ms", "attempts: 1");
    std::fs::write(&plan, asked_once.replace("version: 1", "version: 2")).unwrap();
    let mut shop = shop;
    shop.kill();
    shop.serve();
    let order = shop.order("void", "charge:hang");
    assert_eq!(order["state"], "compensated", "{order}");
    assert_eq!(order["version"], 2);
    assert_eq!(order["steps"][2]["may_be_done"], true);
    let mut expected = Vec::new();
    for step in &STEPS[..3] {
        expected.extend(lines("do", "void", &[step]));
        expected.extend(lines("undo", "void", &[step]));
    }
    assert_eq!(shop.books("void"), expected);
}

#[test]
fn a_killed_gateway_loses_no_order_and_does_nothing_twice() {
    let mut shop = Shop::open();
    let hows = ["", "ship:no", "notify:down", "ship:down", "charge:no"];
    let id = |number: usize| format!("order-{number}");
    for round in 0..4 {
        for number in round * 5..(round + 1) * 5 {
            let input = json!({ "item": "a book", "how": hows[number % hows.len()] });
            let path = format!("/sagas/order?id={}", id(number));
            let (status, told) = shop.ask("POST", &path, &input.to_string());
            assert_eq!(status, 202, "{told}");
        }
        // At another instant in each round.
        std::thread::sleep(Duration::from_millis(7 + 13 * round as u64));
        shop.kill();
        shop.serve();
    }
    let mut recovered = 0;
    for number in 0..20 {
        let (id, how) = (id(number), hows[number % hows.len()]);
        let mut order = Value::Null;
        wait_until("it rests", || {
            order = shop.ask("GET", &format!("/sagas/{id}"), "").1;
            order["state"] == "completed" || order["state"] == "compensated"
        });
        let (_, log) = shop.ask("GET", &format!("/sagas/{id}/log"), "");
        recovered += usize::from(log.to_string().contains("\"recovered\""));
        let books = shop.books(&id);
        let done: Vec<_> = books
            .iter()
            .filter_map(|line| line.strip_prefix("do "))
            .collect();
        let undone: Vec<_> = books
            .iter()
            .filter_map(|line| line.strip_prefix("undo "))
            .collect();
        if order["state"] == "completed" {
            assert!(done.len() >= 4 && undone.is_empty(), "{id}: {books:?}");
            assert!(["", "notify:down"].contains(&how), "{id}: {order}");
        } else {
            assert_eq!(done, undone, "{id}: {books:?}");
        }
        let mut once = books.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), books.len(), "{id}: {books:?}");
    }
    assert!(recovered >= 5, "{recovered} orders saw a process die");
    let (_, all) = shop.ask("GET", "/sagas?limit=12", "");
    assert_eq!(all["sagas"].as_array().unwrap().len(), 12);
    let (_, rest) = shop.ask("GET", &format!("/sagas?after={}", all["next"]), "");
    assert_eq!(rest["sagas"].as_array().unwrap().len(), 8);
    assert_eq!(rest["next"], Value::Null);
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let shop = Shop::open();
    let check = |method: &str, path: &str, fields: &str, body: &str, status: u16, part: &str| {
        let (found, told) = shop.ask_with(method, path, fields, body).unwrap();
        assert_eq!(found, status, "{path}: {told}");
        let detail = told["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(part), "{path}: {told}");
    };
    let input = r#"{"item": "a"}"#;
    assert_eq!(shop.order("one", "")["state"], "completed");
    let same = json!({ "item": "a/book", "count": 2, "how": "" }).to_string();
    let (status, told) = shop.ask("POST", "/sagas/order?id=one", &same);
    assert_eq!((status, &told["new"]), (200, &json!(false)));
    check(
        "POST",
        "/sagas/order?id=one",
        "",
        input,
        409,
        "another input",
    );
    let key = "Idempotency-Key: one\r\n";
    check("POST", "/sagas/order", key, input, 409, "another input");
    check("POST", "/sagas/order?id=two", key, input, 400, "send one");
    check("POST", "/sagas/ordr", "", input, 404, "there are: order");
    check("POST", "/sagas/order?id=a%2Fb", "", input, 400, "letters");
    check("POST", "/sagas/order?id=..", "", input, 400, "letters");
    check("POST", "/sagas/order", "", "{", 400, "no JSON");
    check("POST", "/sagas/order?wait=5", "", input, 400, "unit");
    check("POST", "/sagas/order?wait=5m", "", input, 400, "60s");
    check("POST", "/sagas/order?idd=x", "", input, 400, "idd");
    let large = format!("{:?}", "x".repeat(70_000));
    check("POST", "/sagas/order", "", &large, 413, "`sagas.bytes`");
    let page = "Origin: http://shop.test\r\n";
    check("POST", "/sagas/order", page, input, 403, "web pages");
    check("GET", "/sagas/none", "", "", 404, "no saga");
    check("GET", "/sagas/none/log", "", "", 404, "no saga");
    check("GET", "/sagas/none/events", "", "", 404, "no saga");
    check("GET", "/sagas?state=done", "", "", 400, "compensated");
    check("GET", "/sagas?limit=0", "", "", 400, "limit");
    let by = r#"{"by": "ann", "reason": "test"}"#;
    check("POST", "/sagas/one/cancel", "", by, 409, "it has ended");
    check("POST", "/sagas/none/cancel", "", by, 404, "no saga");
    check("POST", "/sagas/one/cancel", "", "{}", 400, "send {\"by\"");
    check("POST", "/sagas/one/retry", "", by, 400, "\"step\"");
    let by = r#"{"by": "ann", "reason": "test", "step": "sip"}"#;
    check("POST", "/sagas/one/resolve", "", by, 404, "no step");
    // A template that names what the input has not: the step fails, and says why.
    let (_, told) = shop.ask("POST", "/sagas/order?id=bare&wait=10s", "{}");
    assert_eq!(told["state"], "compensated");
    let (_, bare) = shop.ask("GET", "/sagas/bare", "");
    let error = bare["steps"][0]["error"].as_str().unwrap();
    assert_eq!(error, "its path: there is no `input.item`");
    let (_, empty) = shop.ask("GET", "/sagas?state=waiting&definition=order", "");
    assert_eq!(empty["sagas"], json!([]));
}

fn saga(folder: &Path, admin: SocketAddr, arguments: &[&str]) -> (i32, String) {
    let at = format!("http://{admin}");
    let all = [&["saga", "--at", &at], arguments].concat();
    let output = outlast(folder, &all);
    let told = text(&output.stdout) + &text(&output.stderr);
    (output.status.code().unwrap(), told)
}

#[test]
fn people_help_a_saga_that_waits_for_them() {
    let shop = Shop::open();
    let folder = shop.folder.path();
    let saga = |arguments: &[&str]| saga(folder, shop.admin, arguments);
    let input = r#"{"item": "a book"}"#;
    let started = ["start", "order", "--id", "fine", "--input", input];
    let (code, told) = saga(&[&started[..], &["--wait", "10s"]].concat());
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("fine") && told.contains("completed"),
        "{told}"
    );

    let input = r#"{"item": "a book", "how": "ship:hang"}"#;
    let (code, told) = saga(&["start", "order", "--id", "held", "--input", input]);
    assert_eq!(code, 0, "{told}");
    wait_until("it ships", || {
        shop.books("held").contains(&"do held/ship".to_owned())
    });
    let cancel = ["cancel", "held", "--by", "ann", "--reason", "not wanted"];
    let (code, told) = saga(&cancel);
    assert_eq!(code, 0, "{told}");
    let (code, told) = saga(&["watch", "held"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("cancelled by ann: not wanted"), "{told}");
    assert!(told.trim_end().ends_with("compensated"), "{told}");

    let (code, told) = saga(&["list", "--state", "completed"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("fine") && !told.contains("held"), "{told}");
    let (_, told) = saga(&["list", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["sagas"].as_array().unwrap().len(), 2);

    // The refund is refused until its attempts are used up: then somebody has to look.
    let input = r#"{"item": "a book", "how": "reserve:stay ship:no"}"#;
    let (_, told) = saga(&["start", "order", "--id", "dead", "--input", input]);
    assert!(told.contains("dead"), "{told}");
    wait_until("it waits", || {
        shop.ask("GET", "/sagas/dead", "").1["state"] == "waiting"
    });
    let (code, told) = saga(&["dead-letters"]);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("dead") && told.contains("reserve") && told.contains("not now"),
        "{told}"
    );
    wait_until("the log says so", || {
        let log = std::fs::read_to_string(folder.join("log")).unwrap();
        log.contains("wait for somebody: `outlast saga dead-letters`")
    });
    std::fs::write(folder.join("inventory.back"), "").unwrap();
    let retry = [
        "retry", "dead", "reserve", "--by", "ann", "--reason", "back",
    ];
    let (code, told) = saga(&retry);
    assert_eq!(code, 0, "{told}");
    wait_until("it is undone", || {
        shop.ask("GET", "/sagas/dead", "").1["state"] == "compensated"
    });
    let (code, told) = saga(&["show", "dead"]);
    assert_eq!(code, 0, "{told}");
    for part in ["retried by ann: back", "compensated"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let letters = saga(&["dead-letters"]);
    assert_eq!(letters, (0, "no saga waits for anybody\n".to_owned()));

    // One that cannot be undone is left as it is, and says so.
    let input = r#"{"item": "a book", "how": "reserve:stay charge:stay ship:no"}"#;
    std::fs::remove_file(folder.join("inventory.back")).unwrap();
    let start = [
        "start", "order", "--id", "left", "--input", input, "--wait", "20s",
    ];
    let (code, told) = saga(&start);
    let why = "error: it was waited for, and is waiting\n";
    assert_eq!((code, told), (1, format!("left  waiting\n{why}")));
    let (_, told) = saga(&["dead-letters"]);
    let told: Vec<_> = told.lines().collect();
    assert_eq!(told.len(), 5, "{told:#?}");
    let heads = ["id", "saga", "step", "since", "attempts", "why"];
    assert_eq!(told[0].split_whitespace().collect::<Vec<_>>(), heads);
    assert!(told[1].contains("undo reserve") && told[2].contains("undo charge"));
    assert!(told[4].ends_with("show ID  tells all of one, and what helps"));
    let by = ["--by", "ann", "--reason"];
    let (code, told) = saga(&[&["skip", "left", "reserve"], &by[..], &["written off"]].concat());
    assert_eq!((code, &*told), (0, "done\n"));
    let output = [
        &["resolve", "left", "charge", "--output", "1"],
        &by[..],
        &["?"],
    ]
    .concat();
    let (code, told) = saga(&output);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("an output is what a step gave"), "{told}");
    // The commands that are shown are those that help.
    let (_, told) = saga(&["show", "left"]);
    let shown = format!("outlast saga --at http://{} ", shop.admin);
    let helps: Vec<_> = told.lines().filter(|line| line.contains(&shown)).collect();
    assert_eq!(helps.len(), 3, "{told}");
    let resolve = helps.iter().find(|line| line.contains("resolve")).unwrap();
    let words = resolve.trim().strip_prefix(&shown).unwrap();
    let words = words.split("  ").next().unwrap();
    let words = words.replace("WHY", "by-cash").replace("YOU", "ann");
    let words: Vec<_> = words.split(' ').collect();
    let (code, told) = saga(&words);
    assert_eq!((code, &*told), (0, "done\n"));
    let (_, told) = saga(&["show", "left"]);
    for part in [
        "left  order v1  compensated\n`reserve` is not undone\n",
        "skipped by ann: written off",
        "resolved by ann: by-cash",
        "not undone  1, undo 3",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let (code, told) = saga(&["show", "none"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("no saga"), "{told}");
    let end = Instant::now();
    let nobody = crate::serve::free().to_string();
    let output = outlast(
        folder,
        &["saga", "--at", &format!("http://{nobody}"), "list"],
    );
    assert_eq!(output.status.code(), Some(3));
    assert!(end.elapsed() < Duration::from_secs(5));
}

/// The blocks of a language in the guide.
fn blocks(language: &str) -> Vec<&'static str> {
    let guide = include_str!("../../../../docs/sagas.md");
    let part = guide.split("## In the policy file").nth(1).unwrap();
    let begun = format!("```{language}\n");
    let blocks = part.split(&*begun).skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

/// Without the times of a way.
fn timeless(page: &str) -> Vec<&str> {
    let cut = |line: &str| line.starts_with("20") || line.starts_with("        ");
    page.lines()
        .map(|line| if cut(line) { &line[24..] } else { line })
        .collect()
}

#[test]
fn the_guide_says_what_happens() {
    let addresses = SERVICES.map(|_| free());
    let admin = free();
    let mut plan = format!("gateway: {{ listen: {}, admin: {admin} }}\n", free());
    plan.push_str(blocks("yaml")[0]);
    for (number, address) in addresses.iter().enumerate() {
        let shown = format!("127.0.0.1:{}", 7001 + number);
        assert!(plan.contains(&shown));
        plan = plan.replace(&shown, &address.to_string());
    }
    let shop = Shop::with(tempfile::tempdir().unwrap(), addresses, admin, &plan);
    let commands = blocks("sh")[0].replace("127.0.0.1:9900", &admin.to_string());
    let mut told = String::new();
    for command in commands.lines() {
        let ran = Command::new("sh").args(["-c", command]).output().unwrap();
        told.push_str(&text(&ran.stdout));
        told.push('\n');
    }
    assert_eq!(told, blocks("json")[0]);
    let (code, way) = saga(shop.folder.path(), admin, &["show", "order-2"]);
    assert_eq!(code, 0);
    assert_eq!(timeless(&way), timeless(blocks("text")[0]), "{way}");
    // What waits for somebody is shown with the commands that help.
    let input = r#"{"euros": 70, "item": "a safe"}"#;
    let start = [
        "start", "order", "--id", "order-3", "--input", input, "--wait", "20s",
    ];
    let (code, told) = saga(shop.folder.path(), admin, &start);
    assert!(
        code == 1 && told.starts_with("order-3  waiting\n"),
        "{told}"
    );
    let (code, page) = saga(shop.folder.path(), admin, &["show", "order-3"]);
    assert_eq!(code, 0);
    let page = page.replace(&format!(" --at http://{admin}"), "");
    let page: Vec<_> = page.lines().map(sinceless).collect();
    let mut texts = blocks("text").into_iter();
    let shown = texts.find(|text| text.starts_with("order-3")).unwrap();
    let shown: Vec<_> = shown.lines().map(sinceless).collect();
    assert_eq!(page[..shown.len()], shown);
}

/// Without the time since which a step waits.
fn sinceless(line: &str) -> &str {
    line.split_once(" since 20")
        .map_or(line, |(before, _)| before)
}

#[test]
fn the_token_is_shown_to_a_gateway_that_wants_it() {
    let (folder, admin) = (tempfile::tempdir().unwrap(), free());
    std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    let plan = format!(
        "gateway: {{ listen: {}, admin: {{ address: {admin}, token: {{ file: token }} }} }}
{}",
        free(),
        blocks("yaml")[0]
    );
    let shop = Shop::with(folder, SERVICES.map(|_| free()), admin, &plan);
    let saga = |arguments: &[&str]| saga(shop.folder.path(), admin, arguments);
    let (code, told) = saga(&["list"]);
    assert_eq!((code, &*told), (1, "error: this needs the admin token\n"));
    let (code, told) = saga(&["--token", "token", "dead-letters"]);
    assert_eq!((code, &*told), (0, "no saga waits for anybody\n"));
    let (code, told) = saga(&["--token", "none", "list"]);
    assert_eq!(code, 3, "{told}");
    let (code, told) = saga(&["--token", "token", "start", "order", "--input", "{"]);
    assert_eq!(code, 3);
    assert!(told.contains("no JSON"), "{told}");
}
