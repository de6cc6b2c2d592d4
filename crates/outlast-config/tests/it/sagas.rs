//! Sagas of a file: what they become, and every way to write them wrongly.

use outlast_config::plan::{SagaFound, SagaMeaning, SagaUnknown};
use outlast_config::template::Known;
use serde_json::json;

use crate::errors_of;

const FILE: &str = "
upstreams: { shop: { endpoints: http://127.0.0.1:1 }, bank: { endpoints: http://127.0.0.1:2 } }
sagas:
  definitions:
    order:
      version: 1
      steps:
";

fn with(steps: &str) -> String {
    let lines = steps.lines().map(|line| format!("        {line}\n"));
    FILE.to_owned() + &lines.collect::<String>()
}

#[test]
fn steps_are_read_with_their_defaults() {
    let text = with("- [{ name: a, upstream: shop, request: GET /a }, { name: b, upstream: shop, request: GET /b }]
- name: charge
  upstream: bank
  request: POST /charges/{{ saga.id }}
  body: { euros: '{{ input.euros }}', note: 'for {{ input.item }}', count: 2, text: '2', all: [true, ~] }
  retry: { backoff: { base: 1s, jitter: none } }
  outcomes: { 409: success, 400-499: unknown }
  undo: { request: 'DELETE /charges/{{ saga.id }}' }
  pivot: true");
    let loaded = outlast_config::parse("test.yaml", &text).unwrap();
    assert_eq!(loaded.warnings(), []);
    let sagas = loaded.plan().sagas.as_ref().unwrap();
    assert_eq!((sagas.running.get(), sagas.bytes), (10_000, 1 << 20));
    let stages = &sagas.definitions[0].stages;
    assert_eq!(stages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    let (a, charge) = (&stages[0][0], &stages[1][0]);
    assert_eq!((a.act.upstream, a.act.attempts, a.pivot), (0, 3, false));
    assert_eq!((charge.act.upstream, charge.pivot), (1, true));
    let undo = charge.undo.as_ref().unwrap();
    assert_eq!((undo.upstream, undo.attempts), (1, 30));
    let known = Known {
        saga: "1".to_owned(),
        input: json!({ "euros": 5, "item": "a book" }),
        ..Known::default()
    };
    assert_eq!(
        charge.act.body.as_ref().unwrap().fill(&known).unwrap(),
        json!({ "euros": 5, "note": "for a book", "count": 2, "text": "2", "all": [true, null] })
    );
    let check = |status: u16, means: SagaMeaning| {
        assert_eq!(charge.act.means(status), means, "{status}");
    };
    check(409, SagaMeaning::Success);
    check(404, SagaMeaning::Unknown);
    let check = |status: u16, means: SagaMeaning| {
        assert_eq!(a.act.means(status), means, "{status}");
    };
    check(204, SagaMeaning::Success);
    check(302, SagaMeaning::Permanent);
    check(404, SagaMeaning::Permanent);
    check(408, SagaMeaning::Transient);
    check(429, SagaMeaning::Transient);
    check(500, SagaMeaning::Transient);
    check(502, SagaMeaning::Unknown);
    check(503, SagaMeaning::Transient);
    check(504, SagaMeaning::Unknown);
}

#[test]
fn several_versions_of_a_saga_stand_in_a_list() {
    let text = "
upstreams: { shop: { endpoints: http://127.0.0.1:1 } }
sagas:
  definitions:
    order:
      - { version: 1, steps: [{ name: a, upstream: shop, request: GET /a }] }
      - { version: 2, steps: [{ name: b, upstream: shop, request: GET /b }] }
";
    let loaded = outlast_config::parse("test.yaml", text).unwrap();
    let sagas = loaded.plan().sagas.as_ref().unwrap();
    let versions: Vec<_> = sagas.definitions.iter().map(|saga| saga.version).collect();
    assert_eq!(versions, [1, 2]);
    let told = errors_of(&text.replace("version: 2", "version: 1"));
    assert!(
        told.contains("version 1 of `order` is there twice"),
        "{told}"
    );
    let told = errors_of(&format!("gateway: {{ admin: off }}{text}"));
    assert!(told.contains("started at the admin listener"), "{told}");
}

#[test]
fn what_cannot_work_is_told_with_its_place() {
    let check = |steps: &str, place: &str, parts: &[&str]| {
        let told = errors_of(&with(steps));
        assert!(
            told.contains(&format!("test.yaml:{place}\n")),
            "{steps}: {told}"
        );
        for part in parts {
            assert!(told.contains(part), "{steps}: {part}: {told}");
        }
    };
    let step = |more: &str| format!("- {{ name: a, upstream: shop, request: GET /a, {more} }}");
    let request = |request: &str| format!("- {{ name: a, upstream: shop, request: '{request}' }}");
    check(
        "- { name: a, upstream: shop }",
        "8:11",
        &["a step lacks `request`"],
    );
    check("- []", "8:9", &["nothing is done here"]);
    check(
        "- { name: a b, upstream: shop, request: GET /a }",
        "8:19",
        &["cannot be a name"],
    );
    check(
        "- { name: a, upstream: shp, request: GET /a }",
        "8:32",
        &["did you mean `shop`?"],
    );
    check(&request("get /a"), "8:47", &["did you mean `GET`?"]);
    check(&request("/a"), "8:47", &["a method and a path"]);
    check(&request("GET a"), "8:47", &["has no path"]);
    check(&request("GET /a b"), "8:47", &["has no path"]);
    check(&request("GET {{ input.x }}"), "8:47", &["has no path"]);
    check(&request("GET /{{ input.x"), "8:47", &["not closed"]);
    check(
        &request("GET /{{ imput.x }}"),
        "8:47",
        &["nothing else is known"],
    );
    check(
        &request("GET /{{ steps.b.output }}"),
        "8:47",
        &["no step `b`", "the steps are: a"],
    );
    check(
        &request("GET /{{ steps.a.output }}"),
        "8:47",
        &["`a` has given nothing"],
    );
    check(
        &step("body: { x: [ '{{ steps.aa.output }}' ] }"),
        "8:68",
        &["did you mean `a`?"],
    );
    check(
        &step("headers: { x: '{{ y }}' }"),
        "8:69",
        &["nothing else is known"],
    );
    check(
        &step("headers: { Idempotency-Key: x }"),
        "8:66",
        &["is the saga's own"],
    );
    check(&step("timeout: 0s"), "8:64", &["nothing ends in no time"]);
    check(&step("retry: { attempts: 0 }"), "8:74", &["1 to 1000"]);
    check(&step("outcomes: { 200: fine }"), "8:72", &["success"]);
    check(
        &step("pivot: true, best_effort: true"),
        "8:68",
        &["its failure matters"],
    );
    check(&step("on_unknown: ask"), "8:67", &["`retry`, `query`"]);
    check(
        &step("on_unknown: query"),
        "8:67",
        &["not said whom to ask", "query: { request"],
    );
    let query = |more: &str| step(&format!("on_unknown: query, query: {{ {more} }}"));
    check(
        &step("query: { request: GET /a }"),
        "8:55",
        &["nobody is ever asked", "on_unknown: query"],
    );
    check(&query("timeout: 1s"), "8:81", &["query lacks `request`"]);
    check(
        &query("request: POST /a"),
        "8:92",
        &["`POST` may", "`GET` or `HEAD`"],
    );
    check(
        &query("request: GET /a, body: { a: 1 }"),
        "8:100",
        &["`body`"],
    );
    check(
        &query("request: 'GET /{{ steps.a.output }}'"),
        "8:92",
        &["`a` has given nothing"],
    );
    check(
        &query("request: GET /a, outcomes: { 404: permanent }"),
        "8:117",
        &["not_done"],
    );
    check(
        &query("request: GET /a, upstream: x"),
        "8:110",
        &["no upstream `x`"],
    );
    check(
        &step("undo: { request: DELETE /a, upstream: x }"),
        "8:93",
        &["no upstream `x`"],
    );
    check(
        &format!("{}\n{}", step("pivot: true"), step("pivot: true")),
        "9:19",
        &["two steps are called `a`", "two pivots"],
    );
    check(
        &format!(
            "- [ {}, {{ name: b, upstream: shop, request: 'GET /{{{{ steps.a.output }}}}' }} ]",
            &step("")[2..]
        ),
        "8:97",
        &["`a` has given nothing when this is sent"],
    );
}

#[test]
fn an_undo_by_an_output_that_may_lack_is_warned_of() {
    let undo = |place: &str| {
        let text = with(&format!(
            "- {{ name: a, upstream: shop, request: POST /a, undo: {{ request: 'DELETE /a/{{{{ {place} }}}}' }} }}"
        ));
        let loaded = outlast_config::parse("test.yaml", &text).unwrap();
        let warnings = loaded.warnings().iter();
        // Another one is about the upstream that no step uses.
        let own = warnings.filter(|warning| warning.message().contains("no output"));
        own.count()
    };
    assert_eq!(undo("steps.a.output.id"), 1);
    assert_eq!(undo("steps.a.output.id?"), 0);
    assert_eq!(undo("saga.id"), 0);
}

#[test]
fn a_step_asks_as_it_is_tried_unless_it_says_otherwise() {
    let query = |more: &str| {
        let text = with(&format!(
            "- name: a
  upstream: shop
  request: POST /a
  retry: {{ attempts: 7, backoff: 2s }}
  on_unknown: query
  query: {{ request: 'GET /a/{{{{ saga.id }}}}'{more} }}"
        ));
        let loaded = outlast_config::parse("test.yaml", &text).unwrap();
        let sagas = loaded.plan().sagas.as_ref().unwrap();
        match &sagas.definitions[0].stages[0][0].on_unknown {
            SagaUnknown::Query(query) => query.clone(),
            other => panic!("{other:?}"),
        }
    };
    let usual = query("");
    let request = &usual.request;
    assert_eq!((request.upstream, &*request.method), (0, "GET"));
    assert_eq!((request.attempts, request.timeout.as_secs()), (7, 30));
    for (status, found) in [
        (200, SagaFound::Done),
        (204, SagaFound::Done),
        (301, SagaFound::Unknown),
        (400, SagaFound::Unknown),
        (404, SagaFound::NotDone),
        (410, SagaFound::NotDone),
        (429, SagaFound::Unknown),
        (500, SagaFound::Unknown),
    ] {
        assert_eq!(usual.finds(status), found, "{status}");
    }
    let own = query(
        ", upstream: bank, timeout: 2s, retry: { attempts: 2 }, outcomes: { 200-299: unknown, 204: not_done, 409: done }",
    );
    let request = &own.request;
    assert_eq!((request.upstream, request.attempts), (1, 2));
    assert_eq!(request.timeout.as_secs(), 2);
    assert_eq!(own.finds(200), SagaFound::Unknown);
    assert_eq!(own.finds(204), SagaFound::NotDone);
    assert_eq!(own.finds(409), SagaFound::Done);
    assert_eq!(own.finds(404), SagaFound::NotDone);
}

#[test]
fn one_of_several_providers_is_not_asked_about_another() {
    let text = |exclusive: &str| {
        format!(
            "
upstreams:
  bank:
    endpoints: {{ stripe: http://127.0.0.1:1, adyen: http://127.0.0.1:2 }}
    failover: [stripe, adyen]{exclusive}
sagas:
  definitions:
    order:
      version: 1
      steps:
        - {{ name: a, upstream: bank, request: POST /a, on_unknown: query, query: {{ request: GET /a }} }}
"
        )
    };
    outlast_config::parse("test.yaml", &text("")).unwrap();
    let told = errors_of(&text("\n    exclusive: true"));
    assert!(told.contains("another provider could answer"), "{told}");
    assert!(told.contains("test.yaml:12:75"), "{told}");
}

#[test]
fn attempts_that_the_log_has_no_room_for_are_warned_of() {
    let warned = |limits: &str, attempts: u32| {
        let text = with(&format!(
            "- {{ name: a, upstream: shop, request: POST /a, undo: {{ request: DELETE /a, retry: {{ attempts: {attempts} }} }} }}"
        ));
        let text = text.replace("  definitions:", &format!("{limits}  definitions:"));
        let loaded = outlast_config::parse("test.yaml", &text).unwrap();
        let mut warnings = loaded.warnings().iter();
        warnings.any(|warning| warning.message() == "the log has room for 500 attempts")
    };
    assert!(!warned("", 500));
    assert!(warned("", 501));
    assert!(!warned("  limits: { records: 2000 }\n", 1000));

    // What is not said counts, too: an undo has 30 attempts.
    let usual =
        with("- { name: a, upstream: shop, request: POST /a, undo: { request: DELETE /a } }");
    let usual = usual.replace(
        "  definitions:",
        "  limits: { records: 20 }\n  definitions:",
    );
    let loaded = outlast_config::parse("test.yaml", &usual).unwrap();
    let mut warnings = loaded.warnings().iter();
    assert!(warnings.any(|warning| warning.message() == "the log has room for 10 attempts"));
}

#[test]
fn sagas_are_explained() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let loaded = outlast_config::load(&folder.join("sagas.yaml")).unwrap();
    let page = loaded.explain(None).unwrap();
    let explained = &page[page.find("\nsagas\n").unwrap() + 1..];
    let golden = include_str!("../golden/sagas.txt");
    assert_eq!(explained.trim_end(), golden.trim_end(), "\n{explained}");
    // Waits without an end are no overflow.
    let endless = with(
        "- { name: a, upstream: shop, request: GET /a, retry: { attempts: 1000, backoff: { base: 1d, max: 1d, jitter: none } } }",
    );
    let loaded = outlast_config::parse("test.yaml", &endless).unwrap();
    let page = loaded.explain(None).unwrap();
    assert!(page.contains("1000 attempts of 30s, 999d"), "{page}");
    // What runs at once with a step that fails may have been done.
    let beside = with(
        "- [ { name: a, upstream: shop, request: POST /a, undo: { request: DELETE /a } }, { name: b, upstream: shop, request: POST /b } ]",
    );
    let loaded = outlast_config::parse("test.yaml", &beside).unwrap();
    let page = loaded.explain(None).unwrap();
    let (a, b) = page.split_once("b: POST /b").unwrap();
    assert!(a.contains("if it fails: the saga ends"), "{page}");
    assert!(b.contains("if it fails: a is undone"), "{page}");
}

#[test]
fn bounds_of_retries_are_read_and_are_no_part_of_a_version() {
    let sagas = |retry: &str, undo: &str| {
        let text = with(&format!(
            "- name: a
  upstream: shop
  request: GET /a
  body: {{ retry: {{ budget: 5 }} }}
  retry: {{ attempts: 4{retry} }}
  undo: {{ request: GET /b, retry: {{ attempts: 5{undo} }} }}"
        ));
        let loaded = outlast_config::parse("test.yaml", &text).unwrap();
        loaded.plan().sagas.clone().unwrap().definitions.remove(0)
    };
    let usual = sagas("", "");
    let (step, config) = (&usual.stages[0][0], outlast_core::budget::Config::default());
    let ten = std::time::Duration::from_secs(10);
    let fifth = outlast_core::ratio::Ratio::percent(20);
    let budget = outlast_core::budget::Config::new(fifth)
        .window(ten)
        .reserve(100);
    assert_eq!((step.budget, step.undo_rate.get()), (budget, 100));
    assert_eq!(
        (step.act.attempts, step.undo.as_ref().unwrap().attempts),
        (4, 5)
    );

    let check = |retry: &str, expected| {
        let other = sagas(retry, ", rate: 7");
        assert_eq!(other.stages[0][0].budget, expected, "{retry}");
        assert_eq!(other.stages[0][0].undo_rate.get(), 7);
        assert_eq!(other.source, usual.source, "{retry}");
    };
    let half = outlast_core::ratio::Ratio::percent(50);
    check(
        ", budget: 50%",
        outlast_core::budget::Config::new(half)
            .window(ten)
            .reserve(100),
    );
    check(", budget: { reserve: 3, window: 30s, ratio: 10% }", config);
    check(", budget: off", budget.enforce(false));
    // Where nothing else is said of retries they can be bounded, too, and no longer.
    let bare = |step: &str| {
        let text = with(&format!(
            "- {{ name: a, upstream: shop, request: GET /a{step} }}"
        ));
        let loaded = outlast_config::parse("test.yaml", &text).unwrap();
        loaded.plan().sagas.clone().unwrap().definitions.remove(0)
    };
    for (plain, bounded) in [
        ("", ", retry: { budget: off }"),
        (
            ", undo: { request: GET /b }",
            ", undo: { request: GET /b, retry: { rate: 7 } }",
        ),
    ] {
        assert_eq!(bare(plain).source, bare(bounded).source, "{bounded}");
    }
    let other = with("- { name: a, upstream: shop, request: GET /a, retry: { attempts: 3 } }");
    let other = outlast_config::parse("test.yaml", &other).unwrap();
    assert_ne!(
        other.plan().sagas.as_ref().unwrap().definitions[0].source,
        usual.source
    );

    let wrong =
        with("- { name: a, upstream: shop, request: GET /a, retry: { budget: { window: 1ms } } }");
    let errors = errors_of(&wrong);
    assert!(
        format!("{errors:?}").contains("budget.window"),
        "{errors:?}"
    );
}
