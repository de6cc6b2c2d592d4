//! Every way in which a scenario file can be wrong has a place and a mend.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outlast_config::scenario::{self, Law, Load, Scenario, Target};

const POLICY: &str = "upstreams:\n  db: { endpoints: http://db:1 }\n  pair: { endpoints: { a: http://a:1, \
                      b: http://b:1 } }\n  zoned: { endpoints: { x: { url: http://x:1, zone: eu }, y: \
                      { url: http://y:1 } } }\nroutes: { all: { match: /**, upstream: db, deadline: 2s, \
                      tier: critical, retry: never } }";

/// Checks a world of a minute in which a shop calls a database, with more lines.
fn check(more: &str, place: &str, message: &str, mend: &str) {
    check_all(&format!("{WORLD}{more}"), place, message, mend);
}

fn check_all(text: &str, place: &str, message: &str, mend: &str) {
    let told = bind(text).expect_err(text);
    let place = format!("--> test.yaml:{place}\n");
    for part in [&place, message, mend] {
        assert!(told.contains(part), "{text}\n{part}\n{told}");
    }
}

fn bind(text: &str) -> Result<Scenario, String> {
    let plan = outlast_config::parse("policy.yaml", POLICY)
        .unwrap()
        .into_plan();
    let draft = scenario::parse("test.yaml", text).map_err(|problems| problems.to_string())?;
    draft.bind(&plan).map_err(|problems| problems.to_string())
}

const WORLD: &str =
    "for: 1m\nservices: { db: { work: 5ms } }\nclients: { shop: { upstream: db, rate: 9/s } }\n";

#[test]
fn a_world_has_an_end_and_a_size() {
    let world = |head: &str| WORLD.replace("for: 1m", head);
    check_all(
        &world("for: 0s"),
        "1:6",
        "no world runs for that long",
        "from `1s` to `7d`",
    );
    check_all(
        &world("for: 999ms"),
        "1:6",
        "no world runs for that long",
        "from `1s` to `7d`",
    );
    check_all(
        &world("for: 169h"),
        "1:6",
        "no world runs for that long",
        "from `1s` to `7d`",
    );
    check_all(
        &world("for: 1m\nwarm_up: 60s"),
        "2:10",
        "the warm-up is all there is",
        "shorter than `for`",
    );
    check_all(
        &world("for: 1m\nmost_events: 100"),
        "1:1",
        "that would be 5.4e2 calls a run, more than `most_events`",
        "scaled down together",
    );
    check_all(
        "for: 1m",
        "1:1",
        "the scenario lacks `services`",
        "add `services: ...`",
    );
    check_all(
        "for: 1m\nservices: {}\nclients: {}",
        "2:1",
        "there is no service",
        "such as `db: { work: 5ms }`",
    );
    check_all(
        "for: 1m\nservices: {}\nclients: {}",
        "3:1",
        "nobody calls",
        "upstream: db, rate: 100/s",
    );
}

#[test]
fn names_refer_to_something() {
    let world = |clients: &str| {
        format!("for: 1m\nservices: {{ db: {{ work: 5ms }} }}\nclients: {{ {clients} }}")
    };
    let client = |text: &str, place, message, mend| check_all(&world(text), place, message, mend);
    client(
        "shop: { upstream: dba, rate: 9/s }",
        "3:30",
        "no upstream `dba`",
        "did you mean `db`?",
    );
    client(
        "shop: { upstream: mail, rate: 9/s }",
        "3:30",
        "no upstream `mail`",
        "there are: db, pair, zoned",
    );
    client(
        "shop: { route: al, rate: 9/s }",
        "3:27",
        "no route `al`",
        "did you mean `all`?",
    );
    client(
        "shop: { route: all, upstream: db, rate: 9/s }",
        "3:32",
        "a route has its upstream",
        "leave `upstream` out",
    );
    client(
        "shop: { rate: 9/s }",
        "3:12",
        "it calls nothing",
        "add `upstream: NAME`, or `route: NAME`",
    );
    client(
        "shop: { upstream: pair, rate: 9/s }",
        "3:12",
        "nothing is said of what `pair` leads to",
        "add `pair` to `services`, or its endpoints: a, b",
    );
    let service = |text: &str, place, message, mend| {
        let text = WORLD.replace("work: 5ms }", &format!("work: 5ms, {text} }}"));
        check_all(&text, place, message, mend);
    };
    service(
        "calls: [dba]",
        "2:38",
        "no upstream `dba`",
        "did you mean `db`?",
    );
    service(
        "calls: { dba: [db] }",
        "2:39",
        "no upstream `dba`",
        "did you mean `db`?",
    );
    service(
        "ready_with: [cache]",
        "2:43",
        "no service `cache`",
        "there are: db",
    );
    service(
        "liveness: { needs: [dba] }",
        "2:50",
        "no service `dba`",
        "did you mean `db`?",
    );
    service(
        "calls: [[]]",
        "2:38",
        "nothing is called here",
        "leave it out, or name an upstream",
    );
    service(
        "calls: [db]",
        "2:13",
        "the calls of `db` lead in a circle",
        "call nothing",
    );
    service(
        "calls: { pair: [] }",
        "2:39",
        "no request comes to `db` through `pair`",
        "name an upstream that leads there",
    );
    service(
        "replicas: 1 }, cache: { work: 1ms",
        "2:45",
        "no call leads to `cache`",
        "name it like an upstream (db, pair, zoned)",
    );
}

#[test]
fn services_are_as_many_as_endpoints_and_somewhere() {
    let world = |services: &str, upstream: &str| {
        format!(
            "for: 1m\nservices: {{ {services} }}\nclients: {{ shop: {{ upstream: {upstream}, rate: 9/s }} }}"
        )
    };
    check_all(
        &world("pair: { work: 1ms, replicas: 3 }", "pair"),
        "2:42",
        "`pair` has 2 endpoints",
        "write `replicas: 2`, or leave it out",
    );
    check_all(
        &world("zoned: { work: 1ms }", "zoned"),
        "3:12",
        "some endpoints of `zoned` are in no zone",
        "or `zoned` the `zones` of its replicas",
    );
    check_all(
        &format!(
            "zones: {{ eu: {{ us: 9ms }} }}\n{}",
            world("db: { work: 1ms, zones: [asia] }", "db")
        ),
        "1:1",
        "nothing is said of how far `asia` is",
        "add `asia: { OTHER: 1ms }`",
    );
    check_all(
        &format!(
            "zones: {{ eu: {{ us: 9ms }} }}\n{}",
            WORLD.replace("rate", "zone: asia, rate")
        ),
        "1:1",
        "nothing is said of how far `asia` is",
        "add `asia: { OTHER: 1ms }`",
    );
    let found = bind(&world("zoned: { work: 1ms, zones: [us, asia] }", "zoned")).unwrap();
    assert_eq!(found.services[0].zone(1), Some("asia"));
    assert_eq!(found.services[0].replicas, 2);
}

#[test]
fn how_often_clients_call_is_clear() {
    let client = |text: &str, place, message, mend| {
        check_all(&WORLD.replace("rate: 9/s", text), place, message, mend);
    };
    client(
        "copies: 2",
        "3:12",
        "how often it calls is not clear",
        "exactly one of `rate`, `every` and `users`",
    );
    client(
        "rate: 9/s, users: 2",
        "3:12",
        "how often it calls is not clear",
        "exactly one of",
    );
    client(
        "every: 1ns",
        "3:41",
        "nobody calls that often",
        "at least `1us`",
    );
    client(
        "users: 2, thinks: 0s",
        "3:44",
        "users think before they call",
        "think for some time",
    );
    client(
        "rate: []",
        "3:40",
        "a rate has at least one point",
        "such as `200/s`",
    );
    client(
        "rate: [{ at: 9s, rate: 1/s }, { at: 1s, rate: 1/s }]",
        "3:40",
        "the points go back in time",
        "two at one time are a jump",
    );
    client(
        "rate: 9",
        "3:40",
        "`9` does not fit here",
        "write a rate such as `200/s`",
    );
    client(
        "rate: 9000000/s",
        "3:40",
        "`9000000/s` does not fit here",
        "higher than 1000000/s",
    );
    client(
        "process: edge, rate: 9/s }, other: { upstream: db, rate: 9/s, process: edge, zone: eu",
        "3:105",
        "its process is elsewhere, or not as often there, for `shop`",
        "the same `zone` and `copies`",
    );
}

#[test]
fn durations_follow_one_law() {
    let work = |text: &str, place, message, mend| {
        check_all(&WORLD.replace("5ms", text), place, message, mend);
    };
    work(
        "{}",
        "2:19",
        "a duration follows one law",
        "exactly one of `exponential`, `uniform`",
    );
    work(
        "{ exponential: 1ms, measured: x }",
        "2:19",
        "a duration follows one law",
        "or a duration",
    );
    work(
        "{ uniform: { from: 2ms, to: 1ms } }",
        "2:36",
        "there is nothing in between",
        "let `from` be the shorter one",
    );
    let liveness = |text: &str, place, message, mend| {
        work(
            &format!("5ms, liveness: {{ {text} }}"),
            place,
            message,
            mend,
        );
    };
    liveness(
        "every: 1us",
        "2:49",
        "nobody asks that often",
        "at least `1ms`",
    );
    liveness(
        "warms: { from: 0.5%, over: 1s }",
        "2:57",
        "what stands still does not warm up",
        "a share from `1%` on",
    );
    check_all(
        &WORLD.replace(
            "rate: 9/s",
            "users: 1, thinks: { exponential: 1s, uniform: { from: 1s, to: 2s } }",
        ),
        "3:44",
        "a duration follows one law",
        "exactly one of",
    );
}

#[test]
fn files_beside_a_scenario_are_read() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scenarios");
    std::fs::create_dir_all(&folder).unwrap();
    let load = |key: &str, content: &str, message: &str, mend: &str| {
        std::fs::write(folder.join("data.csv"), content).unwrap();
        let text = match key {
            "work" => WORLD.replace("5ms", "{ measured: data.csv }"),
            _ => WORLD.replace("9/s", "{ file: data.csv }"),
        };
        let file = folder.join("world.yaml");
        std::fs::write(&file, text).unwrap();
        let plan = outlast_config::parse("policy.yaml", POLICY)
            .unwrap()
            .into_plan();
        let told = scenario::load(&file)
            .unwrap()
            .bind(&plan)
            .unwrap_err()
            .to_string();
        let place = if key == "work" {
            "world.yaml:2:37\n"
        } else {
            "world.yaml:3:48\n"
        };
        for part in [place, message, mend] {
            assert!(told.contains(part), "{content}: {part}: {told}");
        }
    };
    let bounds = "`12ms,340`: upper bounds that rise";
    load("work", "1ms", "data.csv:1: there is no comma", bounds);
    load("work", "# x\n\n1,5", "data.csv:3: ", bounds);
    load("work", "1ms,x", "data.csv:1: ", bounds);
    load("work", "2ms,1\n2ms,1", "data.csv do not rise", bounds);
    load("work", "2ms,0", "data.csv counts nothing", bounds);
    load(
        "work",
        &"1ms,1\n".repeat(100_001),
        "more than 100000 lines",
        bounds,
    );
    let times = "`90s,200/s`: times that rise, and rates";
    load("rate", "1s,5", "data.csv:1: ", times);
    load("rate", "2s,1/s\n1s,1/s", "the times of", times);
    load("rate", "", "data.csv is empty", times);
    let missing = WORLD.replace("5ms", "{ measured: nowhere.csv }");
    check_all(&missing, "2:37", "nowhere.csv: ", bounds);
    let missing = WORLD.replace("9/s", "{ file: nowhere.csv }");
    check_all(&missing, "3:48", "nowhere.csv: ", times);
}

/// A policy file whose orders go over two upstreams; version 1 of them over another one.
const ORDERS: &str = "gateway: { listen: 127.0.0.1:80, admin: 127.0.0.1:81 }
upstreams:
  db: { endpoints: http://db:1 }
  payment: { endpoints: http://payment:1 }
  refunds: { endpoints: http://refunds:1 }
sagas:
  limits: { running: 77, resumed_a_second: 5, records: 50 }
  definitions:
    order:
      - { version: 1, steps: [{ name: old, upstream: db, request: GET / }] }
      - version: 2
        steps:
          - { name: create, upstream: db, request: POST / }
          - name: charge
            upstream: payment
            request: POST /
            undo: { upstream: refunds, request: POST / }
";

fn bind_orders(text: &str) -> Result<Scenario, String> {
    let plan = outlast_config::parse("policy.yaml", ORDERS);
    let plan = plan.unwrap_or_else(|problems| panic!("{problems}"));
    let draft = scenario::parse("test.yaml", text).map_err(|problems| problems.to_string())?;
    draft
        .bind(plan.plan())
        .map_err(|problems| problems.to_string())
}

const SHOP: &str = "for: 1m
services: { db: { work: 5ms }, payment: { work: 5ms }, refunds: { work: 5ms } }
";

#[test]
fn the_newest_version_of_a_saga_begins_and_no_client_has_to_be_there() {
    let more = "sagas: { order: { rate: 9/s, cancels: 2% } }
runner: { crashes: 1%, crashes_every: 500, restart: 3s, hands: 1h }
timeline: [{ runner: crashes, from: 5s, to: 9s }, { pause: order, from: 7s, to: 9s }]
promises: [settled >= 100%, no half-done sagas, p99 of order < 3s]";
    let scenario = bind_orders(&format!("{SHOP}{more}")).unwrap_or_else(|told| panic!("{told}"));
    let [order] = &scenario.sagas[..] else {
        panic!("{:?}", scenario.sagas);
    };
    assert_eq!((order.saga.version, order.cancels), (2, 0.02));
    assert_eq!(order.load, Load::Open(vec![(Duration::ZERO, 9.0)]));
    assert_eq!(order.cancels_after, Law::Fixed(Duration::from_secs(1)));
    let runner = &scenario.runner;
    assert_eq!(
        (runner.running.get(), runner.resumed_a_second.get()),
        (77, 5)
    );
    assert_eq!((runner.crashes, runner.crashes_every), (0.01, Some(500)));
    assert_eq!(runner.restart, Duration::from_secs(3));
    assert_eq!(runner.hands, Some(Duration::from_secs(3600)));
    assert_eq!(scenario.timeline[0].target, Target::Runner);
    assert_eq!(scenario.timeline[0].name(&scenario), "the runner crashes");
    assert_eq!(runner.records.get(), 50);
    assert_eq!(scenario.timeline[1].target, Target::Sagas(0));
    assert_eq!(scenario.timeline[1].name(&scenario), "order paused");
}

#[test]
fn sagas_are_those_of_the_policy_file_and_lead_somewhere() {
    let check = |text: &str, place: &str, message: &str, mend: &str| {
        let told = bind_orders(text).expect_err(text);
        let place = format!("--> test.yaml:{place}\n");
        for part in [&place, message, mend] {
            assert!(told.contains(part), "{text}\n{part}\n{told}");
        }
    };
    let shop = |more: &str| format!("{SHOP}{more}");
    check(
        &shop("sagas: { ordr: { rate: 9/s } }"),
        "3:10",
        "there is no saga `ordr`",
        "did you mean `order`?",
    );
    check(
        &shop("sagas: { order: { rate: 9/s } }").replace(", refunds: { work: 5ms }", ""),
        "3:10",
        "nothing is said of what `refunds` leads to",
        "add `refunds` to `services`",
    );
    check(
        &shop("sagas: { order: { cancels: 1% } }"),
        "3:10",
        "how often it begins is not clear",
        "exactly one of `rate` and `every`",
    );
    check(
        &shop("sagas: { order: { every: 0s } }"),
        "3:26",
        "nothing begins that often",
        "at least `1us`",
    );
    check(
        &shop("sagas: { order: { every: 1s } }\nclients: { order: { upstream: db, rate: 1/s } }"),
        "3:10",
        "a client is called `order`, too",
        "rename the client",
    );
    check(&shop(""), "1:1", "nobody calls", "add one");
    let orders = |more: &str| shop(&format!("sagas: {{ order: {{ every: 1s }} }}\n{more}"));
    check(
        &orders("runner: { crashes: 51% }"),
        "4:20",
        "gets nowhere",
        "at most `50%`",
    );
    check(
        &orders("timeline: [{ runner: crashes, from: 9s }]"),
        "4:14",
        "sagas would wait for ever",
        "with `to` when it is back",
    );
    check(
        &orders("timeline: [{ runner: crashes, from: 9s, to: 10s, speed: 5% }]"),
        "4:50",
        "this does not happen to the runner",
        "a line of its own",
    );
    check(
        &orders("timeline: [{ runner: crashes, service: db, from: 9s, to: 10s }]"),
        "4:12",
        "it happens to nobody in particular",
        "exactly one of `service`, `zone`, `client`, `runner` and `pause`",
    );
    let twice = "timeline: [{ runner: crashes, from: 9s, to: 11s }, { runner: crashes, from: 10s, to: 12s }]";
    check(&orders(twice), "4:52", "the same happens", "let one end");
    let twice =
        "timeline: [{ pause: order, from: 9s, to: 11s }, { pause: order, from: 10s, to: 12s }]";
    check(&orders(twice), "4:49", "the same happens", "let one end");
    check(
        &orders("timeline: [{ pause: ordr, from: 9s, to: 10s }]"),
        "4:21",
        "there is no saga `ordr`",
        "did you mean `order`?",
    );
    check(
        &orders("timeline: [{ pause: order, from: 9s }]"),
        "4:14",
        "sagas would wait for ever",
        "with `to` when they go on",
    );
    check(
        &orders("timeline: [{ pause: order, from: 9s, to: 10s, fault: away }]"),
        "4:47",
        "this does not happen to sagas",
        "a line of its own",
    );
    check(
        &orders("promises: [goodput >= 99%]"),
        "4:12",
        "nobody calls here",
        "measure sagas: `settled`",
    );
    check(
        &orders("promises: [settled of ordr >= 99%]"),
        "4:12",
        "there is no saga `ordr`",
        "did you mean `order`?",
    );
    check(
        &orders("promises: [p99 of order < 1s from 1s to 2s]"),
        "4:12",
        "measured of whole runs",
        "leave the time out",
    );
}

#[test]
fn who_has_no_sagas_has_no_runner() {
    check(
        "runner: { crashes: 1% }",
        "4:1",
        "no sagas begin",
        "add `sagas: { NAME: { rate: 10/s } }`, or remove it",
    );
    check(
        "timeline: [{ runner: crashes, from: 9s, to: 10s }]",
        "4:14",
        "no sagas begin",
        "add `sagas: { NAME: { rate: 10/s } }`, or remove it",
    );
    check(
        "sagas: { order: { rate: 9/s } }",
        "4:10",
        "there is no saga `order`",
        "add it to `sagas.definitions` of the policy file",
    );
    check(
        "promises: [no half-done sagas]",
        "4:12",
        "no sagas begin here",
        "add `sagas:",
    );
}

/// Both kinds of files have `sagas`.
#[test]
fn a_policy_file_with_sagas_is_not_taken_for_a_scenario() {
    let told = scenario::parse("test.yaml", ORDERS)
        .unwrap_err()
        .to_string();
    assert!(told.contains("this looks like a policy file"), "{told}");
    let text = format!("{SHOP}sagas: {{ order: {{ rate: 9/s }} }}");
    let told = outlast_config::parse("test.yaml", &text).unwrap_err();
    assert!(
        told.to_string().contains("this looks like a scenario"),
        "{told}"
    );
}

#[test]
fn what_happens_happens_to_somebody_within_the_world() {
    let change = |text: &str, place: &str, message: &str, mend: &str| {
        check(&format!("timeline:\n- {{ {text} }}"), place, message, mend);
    };
    change(
        "service: db, from: 9s, to: 9s, fault: away",
        "5:32",
        "over before it begins",
        "let `to` be later",
    );
    change(
        "service: db, from: 60s, fault: away",
        "5:24",
        "the world has ended by then",
        "within `for`",
    );
    change(
        "service: db, from: 9s, to: 61s, fault: away",
        "5:32",
        "the world has ended by then",
        "within `for`",
    );
    change(
        "service: db, from: 9s",
        "5:3",
        "nothing happens here",
        "add `fault`, `failures`, `declines`, `lost`, `speed` or `load`",
    );
    change(
        "service: db, from: 9s, fault: away, warms: { from: 5%, over: 1s }",
        "5:41",
        "it never comes back",
        "say with `to`",
    );
    change(
        "service: db, from: 9s, to: 10s, fault: away, warms: { from: 0%, over: 1s }",
        "5:65",
        "what stands still does not warm up",
        "from `1%` on",
    );
    change(
        "zone: eu, from: 9s, fault: away",
        "5:11",
        "nothing is in zone `eu`",
        "give services `zones`",
    );
    change(
        "client: shp, from: 9s, load: 200%",
        "5:13",
        "no client `shp`",
        "did you mean `shop`?",
    );
    change(
        "service: dba, from: 9s, fault: away",
        "5:14",
        "no service `dba`",
        "did you mean `db`?",
    );
    change(
        "from: 9s, fault: away",
        "5:3",
        "to nobody in particular",
        "`service`, `zone`, `client`, `runner` and `pause`",
    );
    change(
        "service: db, client: shop, from: 9s, fault: away",
        "5:3",
        "to nobody in particular",
        "exactly one of",
    );
    change(
        "service: db, replica: 1, from: 9s, fault: away",
        "5:27",
        "`db` has 1 replicas, counted from 0",
        "name one that is there",
    );
    let mixed = "load is a client's, and all else a service's";
    change(
        "client: shop, from: 9s, fault: away",
        "5:5",
        mixed,
        "put it under `client`",
    );
    change(
        "service: db, from: 9s, load: 200%",
        "5:28",
        mixed,
        "put it under `client`",
    );
    change(
        "client: shop, replica: 0, from: 9s, load: 200%",
        "5:19",
        "a replica of what?",
        "leave `replica` out",
    );
    let users = WORLD.replace("rate: 9/s", "users: 3");
    check_all(
        &format!("{users}timeline: [ {{ client: shop, from: 9s, load: 200% }} ]"),
        "4:15",
        "only a rate can be more or less",
        "give the client a `rate`",
    );
    let overlap = |second: &str| {
        format!("timeline:\n- {{ service: db, from: 9s, to: 20s, fault: away }}\n- {{ {second} }}")
    };
    check(
        &overlap(
            "service: db, from: 19s, fault: hangs, speed: 50%, failures: 1% }\n- { service: db, from: 10s, to: 11s, fault: away",
        ),
        "7:3",
        "the same happens at that time by line 5",
        "let one end before the other begins",
    );
    assert!(
        bind(&format!(
            "{WORLD}{}",
            overlap("service: db, from: 20s, fault: away")
        ))
        .is_ok()
    );
    assert!(
        bind(&format!(
            "{WORLD}{}",
            overlap("service: db, from: 10s, speed: 50%")
        ))
        .is_ok()
    );
    check(
        "timeline: [ { client: shop, from: 1s, load: 200% }, { client: shop, from: 9s, load: 50% } ]",
        "4:53",
        "the same happens at that time",
        "let one end",
    );
}

#[test]
fn a_zone_has_replicas_of_services() {
    let text = WORLD.replace("work: 5ms", "work: 5ms, zones: [eu]");
    check_all(
        &format!("{text}timeline: [ {{ zone: eu, replica: 0, from: 9s, fault: away }} ]"),
        "4:25",
        "a replica of what?",
        "name the `service`",
    );
}

#[test]
fn promises_can_be_judged() {
    let promise = |text: &str, place: &str, message: &str, mend: &str| {
        check(&format!("promises:\n- {text}"), place, message, mend);
    };
    promise(
        "goodput of shp >= 9%",
        "5:3",
        "no client `shp`",
        "did you mean `shop`?",
    );
    promise(
        "goodput of db >= 9%",
        "5:3",
        "no client `db`",
        "there are: shop",
    );
    promise(
        "wasted of shop <= 9%",
        "5:3",
        "no service `shop`",
        "there are: db",
    );
    promise(
        "peak <= 9",
        "5:3",
        "the peak of what?",
        "write `peak of NAME`, one of: db",
    );
    let over = "add something with `from` and `to`";
    promise(
        "recovery <= 3s",
        "5:3",
        "nothing happens that could be over",
        over,
    );
    promise(
        "goodput >= 9% during faults",
        "5:3",
        "nothing happens that could be over",
        over,
    );
    promise(
        "goodput >= 9% before faults",
        "5:3",
        "nothing happens that could be over",
        over,
    );
    promise(
        "goodput >= 9% within 3s of recovery",
        "5:3",
        "nothing happens that could be over",
        over,
    );
    promise(
        "attempts/calls <= 0",
        "5:3",
        "nothing is done with no attempts",
        "write e.g. `1.1`",
    );
    promise(
        "goodput >= 9% from 60s to 70s",
        "5:3",
        "the run ends before that",
        "run for longer",
    );
    promise(
        "badput >= 9%",
        "5:3",
        "`badput >= 9%` does not fit here",
        "`badput` is not measured",
    );
    check(
        "timeline: [ { service: db, from: 9s, to: 20s, fault: away } ]\n\
         promises: [ goodput >= 9% within 40s of recovery ]",
        "5:13",
        "the run ends before that",
        "run for longer",
    );
}

#[test]
fn a_scenario_needs_a_file_and_policies() {
    let told = scenario::load(Path::new("nowhere.yaml"))
        .unwrap_err()
        .to_string();
    assert!(
        told.contains(" --> nowhere.yaml\n") && told.contains("cannot be read"),
        "{told}"
    );
    assert!(!told.contains('|'), "nothing is shown of it: {told}");
    let draft = scenario::parse("test.yaml", WORLD).unwrap();
    assert_eq!(draft.policy(), None);
    let told = draft.lacks_policy().to_string();
    assert!(
        told.contains("no policy file is named") && told.contains("`policy: FILE`"),
        "{told}"
    );
    let policies = "upstreams: { db: { endpoints: http://db:1 } }";
    let told = scenario::parse("p.yaml", policies).unwrap_err().to_string();
    assert!(told.contains("this looks like a policy file"), "{told}");
    assert!(told.ends_with("\n1 error"), "{told}");
    let told = outlast_config::parse("s.yaml", WORLD)
        .unwrap_err()
        .to_string();
    assert!(told.contains("this looks like a scenario"), "{told}");
    assert!(told.contains("run it with `outlast sim`"), "{told}");
    assert!(told.ends_with("\n1 error"), "{told}");
    let named = scenario::parse("test.yaml", &format!("policy: p.yaml\n{WORLD}")).unwrap();
    assert_eq!(named.policy(), Some(PathBuf::from("p.yaml")));
}

#[test]
fn all_errors_are_told_at_once() {
    let text = "for: 1m\nwarm_up: 2m\nservices: { db: { work: {} } }\nclients: { shop: { upstream: dba, \
                rate: 9/s } }\ntimeline: [ { service: db, from: 2m, fault: away } ]";
    let told = bind(text).unwrap_err();
    for line in ["2:10", "3:19", "4:30", "5:34"] {
        assert!(
            told.contains(&format!("test.yaml:{line}\n")),
            "{line}: {told}"
        );
    }
}

#[test]
fn a_client_is_as_its_route_says() {
    let world = |client: &str| {
        let text = WORLD.replace("upstream: db, rate: 9/s", client);
        bind(&text).unwrap().clients.remove(0)
    };
    let client = world("route: all, rate: 9/s");
    let second = std::time::Duration::from_secs(1);
    assert_eq!((client.upstream, client.deadline), (0, Some(2 * second)));
    assert_eq!((client.tier.name(), client.repeatable), ("critical", false));
    let client = world("route: all, rate: 9/s, deadline: 1s, tier: optional");
    assert_eq!(
        (client.deadline, client.tier.name()),
        (Some(second), "optional")
    );
    assert!(world("upstream: db, rate: 9/s").repeatable);
    assert!(!world("upstream: db, rate: 9/s, repeatable: false").repeatable);
}

#[test]
fn what_never_ends_and_what_is_too_much_to_look_at_is_refused() {
    let timeline = "timeline:\n  - { service: db, from: 10s, to: 20s, fault: away }\n  \
                    - { service: db, from: 30s, fault: hangs }\npromises: [ recovery <= 3s ]";
    check(
        timeline,
        "7:13",
        "something begins and never ends",
        "say with `to` when the last thing that happens is over",
    );
    let crowd = WORLD.replace("rate: 9/s", "users: 1000000, copies: 10000");
    let much = crowd.replace("for: 1m", "for: 7d");
    check_all(
        &much,
        "1:1",
        "that would be 6.0e9 samples",
        "fewer `copies` and `replicas`",
    );
    let many = format!("most_present: 1000\n{crowd}");
    check_all(
        &many,
        "4:1",
        "there are 1000000 users, more than `most_present`",
        "`most_present` be",
    );
}

#[test]
fn a_call_may_be_made_twice_if_its_route_says_so() {
    let check = |route: &str, client: &str, expected: bool| {
        let policies = format!(
            "upstreams:\n  db: {{ endpoints: [http://db:1] }}\nroutes:\n  buy: {{ {route}, upstream: db }}\n"
        );
        let plan = outlast_config::parse("policy.yaml", &policies).unwrap();
        let text = WORLD.replace(
            "upstream: db, rate: 9/s",
            &format!("route: buy, rate: 9/s{client}"),
        );
        let world = scenario::parse("test.yaml", &text).unwrap();
        let world = world.bind(plan.plan()).unwrap();
        assert_eq!(world.clients[0].repeatable, expected, "{route}{client}");
    };
    check("match: POST /buy", "", false);
    check("match: GET /buy", "", true);
    check("match: /buy", "", true);
    check("match: { path: /buy, method: [GET, PUT] }", "", true);
    check("match: { path: /buy, method: [GET, PATCH] }", "", false);
    check("match: POST /buy, idempotency_key: make", "", true);
    check("match: POST /buy, retry: always", "", true);
    check("match: GET /buy, retry: never", "", false);
    check("match: POST /buy", ", repeatable: true", true);
    check("match: GET /buy", ", repeatable: false", false);
    check("match: GET /buy, retry: never", ", repeatable: true", true);
}

#[test]
fn a_misspelt_service_is_marked_where_it_is_and_nowhere_else() {
    let check = |services: &str, more: &str, place: &str, message: &str, mend: &str| {
        let text = format!(
            "for: 1m\nservices: {{ {services} }}\nclients: {{ shop: {{ upstream: pair, rate: 9/s }} }}\n{more}"
        );
        check_all(&text, place, message, mend);
        let told = bind(&text).unwrap_err();
        assert!(told.ends_with("\n1 error"), "{told}");
    };
    let fault = "timeline: [ { service: pair, from: 9s, to: 10s, fault: away } ]\npromises: [ peak of pair <= 9 ]";
    let (message, mend) = ("no call leads to `piar`", "did you mean `pair`?");
    check("piar: { work: 1ms }", "", "2:13", message, mend);
    check("piar: { work: 1ms }", fault, "2:13", message, mend);
    check(
        "a: { work: 1ms }",
        "",
        "3:12",
        "nothing is said of what `b` of `pair` leads to",
        "add to `services`: b",
    );
    check(
        "mail: { work: 1ms }",
        "",
        "3:12",
        "what `pair` leads to",
        "its endpoints: a, b",
    );
}

#[test]
fn a_misspelt_endpoint_is_marked_where_it_is() {
    let policies = "upstreams: { pay: { endpoints: { stripe: http://a:1, adyen: http://b:1 } } }";
    let plan = outlast_config::parse("policy.yaml", policies).unwrap();
    let text = "for: 1m\nservices: { stripe: { work: 1ms }, adyn: { work: 1ms } }\nclients: { shop: { \
                upstream: pay, rate: 9/s } }";
    let draft = scenario::parse("test.yaml", text).unwrap();
    let told = draft.bind(plan.plan()).unwrap_err().to_string();
    for part in ["--> test.yaml:2:36\n", "did you mean `adyen`?", "\n1 error"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_client_that_is_wrong_is_told_once() {
    let text = "for: 1m\nservices: { db: { work: 5ms } }\nclients: { shop: { upstream: db, rate: 9/s }, lookers: { \
                upstream: dbb, rate: 9/s } }\ntimeline: [ { client: lookers, from: 9s, to: 10s, load: 200% } ]\n\
                promises: [ goodput of lookers >= 9% ]";
    let told = bind(text).unwrap_err();
    assert!(told.contains("there is no upstream `dbb`"), "{told}");
    assert!(!told.contains("there is no client"), "{told}");
    assert!(told.ends_with("\n1 error"), "{told}");
}

#[test]
fn promises_are_about_what_is_counted() {
    let check = |promise: &str, message: &str, mend: &str| {
        let text = WORLD.replace("for: 1m", "for: 1m\nwarm_up: 10s");
        let fault = "timeline: [ { service: db, from: 8s, to: 10s, fault: away } ]\npromises:\n- ";
        check_all(&format!("{text}{fault}{promise}"), "7:3", message, mend);
    };
    let (ends, longer) = ("the run ends before that", "run for longer");
    check("goodput >= 9% from 50s to 61s", ends, longer);
    let (early, later) = ("before the warm-up is over", "let it be later");
    check("goodput >= 9% from 5s to 10s", early, later);
    check("goodput >= 9% before faults", early, later);
    check("goodput >= 9% during faults", early, later);
    check("goodput > 100%", "does not fit here", "write `>= 100%`");
    check(
        "goodput >= 9% in 0% of runs",
        "does not fit here",
        "is no promise",
    );
    check(
        "badput >= 9%",
        "does not fit here",
        "  |   measures: `goodput",
    );
}
