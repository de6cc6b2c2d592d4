//! Endpoints that are different providers: what files mean, and how they are wrong.

use std::path::Path;
use std::time::Duration;

use outlast_config::plan::{
    Dialect, Exclusive, Meaning, Rewrite, Secret, Setting, StatusChange, StatusOutcome,
};

use crate::{errors_of, plan};

const GOOD: &str = include_str!("../golden/providers.yaml");

#[test]
fn all_errors_are_told_at_once() {
    let told = errors_of(include_str!("../golden/providers-bad.yaml"));
    let golden = include_str!("../golden/providers-bad.txt");
    assert_eq!(told.trim_end(), golden.trim_end(), "\n{told}");
}

#[test]
fn each_endpoint_is_explained() {
    let loaded = outlast_config::parse("test.yaml", GOOD).unwrap();
    assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
    let page = loaded.explain(Some("payment")).unwrap();
    let golden = include_str!("../golden/providers.txt");
    assert_eq!(page.trim_end(), golden.trim_end(), "\n{page}");
}

#[test]
fn every_setting_means_something() {
    let plan = plan(GOOD);
    let upstream = &plan.upstreams[0];
    let exclusive = upstream.exclusive.as_ref().unwrap();
    assert!(
        exclusive
            .journal
            .as_deref()
            .is_some_and(|path| path.ends_with("keys.jsonl"))
    );
    assert_eq!(
        (exclusive.keep, exclusive.keys),
        (Duration::from_secs(86_400), 100_000)
    );
    let outcome = |status, means| StatusOutcome {
        from: status,
        to: status,
        means,
    };
    let expected = Dialect {
        rewrite: Some(Rewrite::Whole("/v1/charges".to_owned())),
        set: vec![(
            "x-api".to_owned(),
            Setting::Kept(Secret::Environment("STRIPE".to_owned())),
        )],
        remove: vec!["cookie".to_owned()],
        outcomes: vec![
            outcome(402, Meaning::Permanent),
            outcome(503, Meaning::Transient),
        ],
        statuses: Vec::new(),
    };
    assert_eq!(upstream.endpoints[0].dialect, expected);
    assert_eq!(upstream.endpoints[1].dialect, Dialect::default());
    assert_eq!(upstream.endpoints[1].host, "adyen.test");
}

/// An upstream with these endpoints and settings.
fn of(endpoints: &str, settings: &str) -> outlast_config::plan::Upstream {
    let text = format!(
        "
routes: {{ r: {{ match: /**, upstream: up }} }}
upstreams: {{ up: {{ endpoints: {{ {endpoints} }}{settings} }} }}
"
    );
    plan(&text).upstreams.remove(0)
}

#[test]
fn the_narrowest_range_counts_and_starts_have_no_slash_at_the_end() {
    let upstream = of(
        "a: { url: http://a, rewrite: { from: /pay/, to: / }, statuses: { 500-599: 502, 503: 429 } }",
        "",
    );
    let dialect = &upstream.endpoints[0].dialect;
    let change = |from, to, seen| StatusChange { from, to, seen };
    assert_eq!(
        dialect.statuses,
        [change(503, 503, 429), change(500, 599, 502)]
    );
    let start = Rewrite::Start {
        from: "/pay".to_owned(),
        to: String::new(),
    };
    assert_eq!(dialect.rewrite, Some(start));
}

#[test]
fn exclusive_is_a_word_or_a_mapping() {
    let exclusive = |settings: &str| {
        let settings = format!(", failover: [a, b]{settings}");
        of("a: http://a, b: http://b", &settings).exclusive
    };
    let default = Exclusive {
        journal: None,
        keep: Duration::from_secs(86_400),
        keys: 100_000,
    };
    assert_eq!(exclusive(""), None);
    assert_eq!(exclusive(", exclusive: false"), None);
    assert_eq!(exclusive(", exclusive: true"), Some(default.clone()));
    let written = Exclusive {
        journal: Some(Path::new("/var/keys").to_owned()),
        keep: Duration::from_secs(60),
        keys: 5,
    };
    assert_eq!(
        exclusive(", exclusive: { journal: /var/keys, keep: 1m, keys: 5 }"),
        Some(written)
    );
}

#[test]
fn what_is_likely_not_meant_is_told() {
    let text = "
routes: { r: { match: /**, upstream: up } }
upstreams: { up: { endpoints: { a: http://a, b: http://b }, failover: [a, b], exclusive: true } }
";
    let loaded = outlast_config::parse("test.yaml", text).unwrap();
    let told = format!("{:?}", loaded.warnings());
    assert!(told.contains("after a restart nobody knows"), "{told}");
    assert!(told.contains("no status of `a` is a definite no"), "{told}");
}

#[test]
fn a_new_secret_makes_it_another_upstream() {
    let folder = std::env::temp_dir().join(format!("outlast-secret-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("key");
    let source = |secret: &str| {
        std::fs::write(&file, secret).unwrap();
        let endpoint = format!(
            "a: {{ url: http://a, headers: {{ set: {{ X-Api: {{ file: {} }} }} }} }}",
            file.display()
        );
        of(&endpoint, "").source
    };
    let (first, again, second) = (source("one"), source("one"), source("two"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(first, again);
    assert_ne!(first, second);
    assert!(!first.contains("one"));
}
