//! The canaries of routes: what files mean, and how they are wrong.

use std::time::Duration;

use outlast_config::plan::{Canary, Sticky};
use outlast_core::canary::Config;
use outlast_core::ratio::Ratio;

use crate::{errors_of, plan};

/// The canary of the only route, with these settings.
fn canary(settings: &str) -> Canary {
    let text = format!(
        "
routes: {{ r: {{ match: /**, upstream: blue, canary: {{ upstream: green{settings} }} }} }}
upstreams: {{ blue: {{ endpoints: http://b }}, green: {{ endpoints: http://g }} }}
"
    );
    plan(&text).routes.remove(0).canary.unwrap()
}

#[test]
fn all_errors_are_told_at_once() {
    let told = errors_of(include_str!("../golden/canary-bad.yaml"));
    let golden = include_str!("../golden/canary-bad.txt");
    assert_eq!(told.trim_end(), golden.trim_end(), "\n{told}");
}

#[test]
fn both_versions_are_explained() {
    let loaded = outlast_config::parse("test.yaml", include_str!("../golden/canary.yaml"));
    let page = loaded.unwrap().explain(None).unwrap();
    let golden = include_str!("../golden/canary.txt");
    assert_eq!(page.trim_end(), golden.trim_end(), "\n{page}");
}

#[test]
fn left_out_is_what_the_core_has_by_default() {
    let plain = canary("");
    assert_eq!((plain.upstream, &plain.sticky), (1, &Sticky::Client));
    assert_eq!(plain.policy, Config::default());
    assert_eq!(canary(", kind: blue_green").policy, Config::blue_green());
    let written = canary(
        ", kind: steps, steps: [1%, 5%, 10%, 25%, 50%, 100%], sticky: client, min_time: 60s, \
         min_calls: 100, limit: 1h, watch: 5m, worsening: { factor: 2, absolute: 0.5% }, \
         slower: 1.25, alpha: 5%, beta: 5%, promote: auto, roll_back: auto, permanent_fails: false",
    );
    assert_eq!(written.policy, Config::default());
    let written = canary(", kind: blue_green, watch: 10m, promote: manual");
    assert_eq!(written.policy, Config::blue_green());
}

#[test]
fn every_setting_means_something() {
    let default = Config::default;
    let half = Ratio::percent(50);
    for (setting, expected) in [
        (
            "steps: [0%, 50%, 100%]",
            default().steps([Ratio::ZERO, half, Ratio::ONE]),
        ),
        ("min_time: 5s", default().min_time(Duration::from_secs(5))),
        ("min_calls: 7", default().min_calls(7)),
        ("limit: 2h", default().limit(Duration::from_secs(7200))),
        ("watch: 1m", default().watch(Duration::from_secs(60))),
        (
            "worsening: { factor: 3 }",
            default().worsening(3.0, Ratio::new(0.005).unwrap()),
        ),
        (
            "worsening: { absolute: 1% }",
            default().worsening(2.0, Ratio::percent(1)),
        ),
        ("slower: 2", default().slower(Some(2.0))),
        ("slower: off", default().slower(None)),
        ("alpha: 1%", default().alpha(Ratio::percent(1))),
        ("beta: 1%", default().beta(Ratio::percent(1))),
        ("promote: manual", default().promote(false)),
        ("roll_back: manual", default().roll_back(false)),
        ("permanent_fails: true", default().permanent_fails(true)),
        ("kind: blue_green", Config::blue_green()),
        (
            "kind: blue_green, promote: auto, watch: 1m",
            Config::blue_green()
                .promote(true)
                .watch(Duration::from_secs(60)),
        ),
    ] {
        let read = canary(&format!(", {setting}"));
        assert_eq!(read.policy, expected, "{setting}");
        assert_ne!(read.policy, default(), "{setting}");
    }
    let header = Sticky::Header("x-user".to_owned());
    assert_eq!(canary(", sticky: { header: X-User }").sticky, header);
    assert_eq!(canary(", sticky: off").sticky, Sticky::Off);
}

#[test]
fn it_is_the_same_while_its_section_and_the_old_version_are() {
    let source = |route: &str, more: &str| {
        let text = format!(
            "
routes: {{ r: {{ {route} }} }}
upstreams: {{ blue: {{ endpoints: http://b }}, green: {{ endpoints: http://g }}, red: {{ endpoints: http://r }}{more} }}
"
        );
        plan(&text).routes.remove(0).canary.unwrap().source
    };
    let plain = source(
        "match: /**, upstream: blue, canary: { upstream: green, limit: 2h }",
        "",
    );
    for same in [
        "match: /**, upstream: blue, canary: { limit: '2h', upstream: green }",
        "match: /x, upstream: blue, tier: critical, canary: { upstream: green, limit: 2h }",
    ] {
        assert_eq!(
            source(same, ", more: { endpoints: http://m }"),
            plain,
            "{same}"
        );
    }
    for other in [
        "match: /**, upstream: red, canary: { upstream: green, limit: 2h }",
        "match: /**, upstream: blue, canary: { upstream: red, limit: 2h }",
        "match: /**, upstream: blue, canary: { upstream: green, limit: 3h }",
        "match: /**, upstream: blue, canary: { upstream: green, limit: 2h, sticky: off }",
    ] {
        assert_ne!(source(other, ""), plain, "{other}");
    }
}

#[test]
fn versions_whose_statuses_mean_something_else_are_warned_of() {
    let warnings = |outcomes: &str| {
        let text = format!(
            "
routes: {{ r: {{ match: /**, upstream: blue, canary: {{ upstream: green }} }} }}
upstreams:
  blue: {{ endpoints: http://b, outcomes: {{ 404: permanent }} }}
  green: {{ endpoints: http://g{outcomes} }}
"
        );
        let loaded = outlast_config::parse("test.yaml", &text).unwrap();
        let warnings = loaded.warnings().iter();
        warnings.map(ToString::to_string).collect::<String>()
    };
    assert_eq!(
        warnings(", outcomes: { 404: permanent }"),
        "",
        "and green is used"
    );
    let told = warnings("");
    assert!(
        told.contains("their statuses do not mean the same"),
        "{told}"
    );
    assert!(told.contains("test.yaml:2:"), "{told}");
}
