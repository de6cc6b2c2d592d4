//! Every way to be wrong has a place and a mend.

use proptest::prelude::*;

use crate::errors_of;

#[test]
fn all_errors_of_a_file_are_told_at_once() {
    let text = include_str!("../golden/bad.yaml");
    let told = errors_of(text);
    let golden = include_str!("../golden/bad.txt");
    assert_eq!(told.trim_end(), golden.trim_end(), "\n{told}");
}

#[test]
fn each_error_names_its_place_and_its_mend() {
    let check = |text: &str, place: &str, parts: &[&str]| {
        let told = errors_of(text);
        assert!(
            told.contains(&format!("test.yaml:{place}\n")),
            "{text}: {told}"
        );
        for part in parts {
            assert!(told.contains(part), "{part}: {told}");
        }
    };
    check("a: [", "2:1", &["not YAML"]);
    check("gateway: {}\n---\nroutes: {}", "2:1", &["second document"]);
    check(
        "gateway: &a {}\nroutes: *a",
        "1:10",
        &["anchors and aliases"],
    );
    check("gateway: !x {}", "1:10", &["tags"]);
    check(
        "gateway: {}\ngateway: {}",
        "2:1",
        &["given twice", "line 1"],
    );
    check("- 1", "1:1", &["a list does not fit here"]);
    check(
        "upstreams: { 'a b': { endpoints: http://h } }",
        "1:14",
        &["cannot be a name"],
    );
    check("upstreams: { a: {} }", "1:17", &["lacks `endpoints`"]);
    check(
        "upstreams: { a: { endpoints: http://u@h } }",
        "1:30",
        &["no user, query or fragment"],
    );
    check(
        "routes: { r: { match: /**/a, upstream: a } }",
        "1:23",
        &["`**` stands at the end"],
    );
    check(
        "gateway: { listen: [127.0.0.1:1, 127.0.0.1:1] }",
        "1:34",
        &["listened on twice"],
    );
    check(
        "gateway: { limits: { idle_timeout: 1ms } }",
        "1:36",
        &["at least `500ms`"],
    );
    check("gateway: { deadline: 0s }", "1:22", &["or `none`"]);
    check(
        "upstreams: { a: { endpoints: { x: http://h, y: http://i }, failover: [x] } }",
        "1:60",
        &["leaves `y` out"],
    );
    check(
        "upstreams: { a: { endpoints: http://h, fallback: { upstream: a } } }",
        "1:14",
        &["leads back to it"],
    );
    check(
        "upstreams: { a: { endpoints: http://h, breaker: { cooldown: 48h } } }",
        "1:61",
        &["`breaker.cooldown` cannot work"],
    );
    check(
        "upstreams: { a: { endpoints: http://h, fault: { delay: 1s, hang: true } } }",
        "1:47",
        &["exactly one of"],
    );
    check(
        "upstreams: { a: { endpoints: https://h, tls: { key: k } } }",
        "1:46",
        &["a key its certificate"],
    );
    check(
        "routes: { r: { match: /, upstream: a, deadline: none, shield: true } }\nupstreams: { a: { endpoints: http://h } }",
        "1:55",
        &["a shielded request needs an end"],
    );
    check(
        "gateway: { admin: { address: '127.0.0.1:1', token: { file: a, env: B } } }",
        "1:52",
        &["either `file` or `env`"],
    );
}

#[test]
fn a_flood_of_errors_is_cut() {
    let text: String = (0..80).map(|number| format!("x{number}: 1\n")).collect();
    assert!(errors_of(&text).ends_with("80 errors, of which 30 are not shown"));
}

#[test]
fn depth_and_size_are_bounded() {
    assert!(errors_of(&"[".repeat(10_000)).contains("error"));
    assert!(errors_of(&"a: {".repeat(100)).contains("error"));
    assert!(errors_of(&"# \n".repeat(400_000)).contains("at most 1 MiB"));
}

#[test]
fn what_the_fuzz_target_is_seeded_with_is_read_or_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/config");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        match outlast_config::parse("seed.yaml", &text) {
            Ok(loaded) => drop(loaded.explain(None).unwrap()),
            Err(problems) => assert!(problems.to_string().contains("seed.yaml:"), "{text}"),
        }
        count += 1;
    }
    assert!(count > 5, "{count}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = outlast_config::parse("any.yaml", &text).map_err(|problems| problems.to_string());
    }

    #[test]
    fn no_change_of_a_good_file_makes_it_panic(at in 0_usize..2000, with in "\\PC{0,3}", cut in 0_usize..5) {
        let mut text: Vec<char> = outlast_config::STARTER.chars().collect();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, with.chars());
        let text: String = text.into_iter().collect();
        if let Ok(loaded) = outlast_config::parse("any.yaml", &text) {
            loaded.explain(None).unwrap();
        }
    }
}

#[test]
fn what_a_gateway_says_of_itself_has_to_be_probed_in_one_way() {
    let check = |checks: &str, parts: &[&str]| {
        let told = errors_of(&format!("health: {{ checks: {{ {checks} }} }}"));
        for part in parts {
            assert!(told.contains(part), "{part}: {told}");
        }
    };
    check(
        "a: {}",
        &[
            "`a` has to be probed in one way",
            "give exactly one of `tcp`",
        ],
    );
    check(
        "a: { tcp: 'h:1', redis: 'redis://h:1' }",
        &["`a` has to be probed in one way"],
    );
    check("a: { rediss: 'redis://h:1' }", &["did you mean `redis`?"]);
    check(
        "a: { postgres: { file: f, env: E } }",
        &[
            "a secret is kept in one place",
            "give either `file` or `env`",
        ],
    );
    check(
        "a: { tcp: 'h:1', interval: 1s, timeout: 2s }",
        &["`timeout` cannot work", "at most the interval"],
    );
    check(
        "a: { tcp: 'h:1', on_demand: true, critical: true }",
        &["`on_demand` cannot work"],
    );
    let told = errors_of("health: { stuck_after: 1ms }");
    assert!(told.contains("write at least `100ms`"), "{told}");
}
