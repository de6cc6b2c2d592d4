//! The section `degrade`: what it means, what is wrong with it, what may not be meant.

use std::path::Path;
use std::time::Duration;

use outlast_config::plan::Tier;

use crate::warnings::warnings_of;
use crate::{errors_of, plan};

fn golden() -> outlast_config::Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/degrade.yaml");
    match outlast_config::load(&path) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}"),
    }
}

#[test]
fn a_good_section_is_explained() {
    let loaded = golden();
    assert!(loaded.warnings().is_empty(), "{:?}", loaded.warnings());
    let page = loaded.explain(None).unwrap();
    let explained = &page[page.find("\ndegrade\n").unwrap() + 1..];
    let golden = include_str!("../golden/degrade.txt");
    assert_eq!(explained.trim_end(), golden.trim_end(), "\n{explained}");
}

#[test]
fn a_good_section_is_a_plan() {
    let plan = golden().into_plan();
    let degrade = plan.degrade.unwrap();
    let modes: Vec<_> = degrade
        .modes
        .iter()
        .map(|mode| mode.name.as_str())
        .collect();
    assert_eq!(
        modes,
        ["lean", "survival", "maintenance"],
        "in the order of the file"
    );
    let [lean, survival, _] = &degrade.modes[..] else {
        panic!("three modes");
    };
    assert_eq!((lean.when.len(), lean.off.len()), (2, 1));
    assert_eq!(lean.off_after, Duration::from_secs(60));
    assert_eq!((survival.when.len(), survival.off.len()), (4, 4));
    assert_eq!(
        survival.off_after,
        Duration::from_secs(15),
        "three times `for`"
    );
    assert!(survival.serve_stale && !lean.serve_stale);
    // A route that a feature names is its own; the others of the upstream belong to the other.
    let [recommendations, toplist, receipts] = &degrade.features[..] else {
        panic!("three features");
    };
    assert_eq!(recommendations.routes, [3]);
    assert_eq!(toplist.routes, [2]);
    assert!(receipts.routes.is_empty());
    // A route without a tier of its own has that of its feature.
    assert_eq!(plan.routes[3].tier, Tier::Optional);
    let instead = recommendations.instead.as_ref().unwrap();
    assert_eq!(
        (instead.status, instead.body.as_str()),
        (203, "[\"bestseller\"]\n")
    );
    let kind = ("content-type".to_owned(), "application/json".to_owned());
    assert_eq!(instead.headers, [kind]);
}

#[test]
fn all_errors_of_a_section_are_told_at_once() {
    let told = errors_of(include_str!("../golden/degrade-bad.yaml"));
    let golden = include_str!("../golden/degrade-bad.txt");
    assert_eq!(told.trim_end(), golden.trim_end(), "\n{told}");
}

#[test]
fn a_body_file_is_bounded_and_text() {
    let folder = std::env::temp_dir().join(format!("outlast-degrade-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let told = |bytes: Vec<u8>| {
        std::fs::write(folder.join("body"), bytes).unwrap();
        let text = "degrade: { features: { f: { instead: { body_file: body } } } }";
        std::fs::write(folder.join("policy.yaml"), text).unwrap();
        outlast_config::load(&folder.join("policy.yaml"))
            .map(|loaded| loaded.into_plan().degrade.unwrap().features.remove(0))
            .map_err(|problems| problems.to_string())
    };
    let most = vec![b'x'; 1 << 20];
    let feature = told(most.clone()).unwrap();
    assert_eq!(feature.instead.unwrap().body.len(), 1 << 20);
    let over = told([most.as_slice(), b"x"].concat()).unwrap_err();
    assert!(over.contains("larger than 1 MiB"), "{over}");
    let binary = told(vec![0xff]).unwrap_err();
    assert!(binary.contains("is no text"), "{binary}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_decides_about_modes_makes_another_section_and_nothing_else() {
    let source = |section: &str| plan(&format!("degrade: {section}")).degrade.unwrap().source;
    let plain = source("{ modes: { a: { when: { errors: '> 1%' } } }, features: { f: {} } }");
    let check = |section: &str, same: bool| {
        assert_eq!(source(section) == plain, same, "{section}");
    };
    check(
        "{ features: { f: { instead: { body: x } } }, modes: { a: { when: { errors: '>1%', for: 10s } } } }",
        true,
    );
    check(
        "{ modes: { a: { when: { errors: '> 2%' } } }, features: { f: {} } }",
        false,
    );
    check(
        "{ modes: { a: { when: { errors: '> 1%', for: 9s } } }, features: { f: {} } }",
        false,
    );
    check(
        "{ modes: { a: { when: { errors: '> 1%' }, off: { for: 9s } } }, features: { f: {} } }",
        false,
    );
    check(
        "{ modes: { a: { when: { errors: '> 1%' }, serve_stale: true } }, features: { f: {} } }",
        false,
    );
    check(
        "{ modes: { a: { when: { errors: '> 1%' } } }, features: { f: { tier: optional } } }",
        false,
    );
    check(
        "{ modes: { a: { when: { errors: '> 1%' } } }, features: { f: {} }, enforce: false }",
        false,
    );
    check(
        "{ modes: { a: { when: { errors: '> 1%' } } }, features: { f: {} }, window: 9s }",
        false,
    );
    check(
        "{ modes: { a: { when: { errors: '> 1%' } } }, features: { f: {} }, min_calls: 9 }",
        false,
    );
}

#[test]
fn modes_that_cannot_begin_or_come_and_go_are_found() {
    let check = |mode: &str, expected: &str| {
        let told = warnings_of(&format!(
            "
gateway: {{ deadline: 1s }}
routes: {{ r: {{ match: /**, upstream: up, tier: optional }} }}
upstreams: {{ up: {{ endpoints: http://h }} }}
degrade: {{ modes: {{ m: {{ {mode} }} }} }}
"
        ));
        match expected {
            "" => assert_eq!(told, "", "{mode}"),
            expected => assert!(told.contains(expected), "{mode}: {told}"),
        }
    };
    check("when: { p99: '> 500ms' }, disable: [optional]", "");
    check("disable: [optional]", "");
    check("when: { p99: '> 1s' }", "");
    check(
        "when: { p99: '> 1125ms' }",
        "every request ends at its deadline, at most 1s",
    );
    check("when: { load: '> 90%' }", "no upstream has a bulkhead");
    check("when: { breaker: { open: up } }", "`up` has no breaker");
    check(
        "when: { breaker: { open: any } }",
        "no upstream has a breaker",
    );
    check("when: { budget: exhausted }", "no upstream spends a budget");
    check(
        "when: { errors: '> 10%' }, off: { errors: '< 9%' }",
        "it ends where it begins",
    );
    check("when: { errors: '> 10%' }, off: { errors: '< 8%' }", "");
    check(
        "when: { p50: '> 100ms' }, off: { p50: '< 100ms' }",
        "it ends where it begins",
    );
    check(
        "when: { p50: '> 100ms', for: 30s }, off: { for: 10s }",
        "sooner than it begins",
    );
    check(
        "when: { errors: '> 1%' }, disable: [important]",
        "no route and no feature is important",
    );
}

#[test]
fn features_without_routes_and_with_two_tiers_are_found() {
    let told = warnings_of(
        "
routes: { r: { match: /**, upstream: up, tier: critical } }
upstreams: { up: { endpoints: http://h } }
degrade:
  features:
    shown: { tier: optional, upstream: up }
    hidden: { instead: { body: x } }
",
    );
    assert!(
        told.contains("`r` is critical, but it is switched off with `shown`"),
        "{told}"
    );
    assert!(told.contains("no route shows this answer"), "{told}");
    assert_eq!(told.matches("warning:").count(), 2, "{told}");
}
