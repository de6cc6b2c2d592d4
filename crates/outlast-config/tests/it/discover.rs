//! Endpoints that are found while the gateway runs.

use std::time::Duration;

use outlast_config::plan::{Discovery, Names, Record, Upstream};

fn upstream(text: &str) -> Upstream {
    let file =
        format!("routes: {{ all: {{ match: /**, upstream: up }} }}\nupstreams: {{ up: {text} }}");
    match outlast_config::parse("x.yaml", &file) {
        Ok(loaded) => loaded.into_plan().upstreams.remove(0),
        Err(problems) => panic!("{problems}"),
    }
}

fn refused(text: &str) -> String {
    let file =
        format!("routes: {{ all: {{ match: /**, upstream: up }} }}\nupstreams: {{ up: {text} }}");
    outlast_config::parse("x.yaml", &file)
        .unwrap_err()
        .to_string()
}

#[test]
fn names_are_looked_up_as_the_file_says() {
    let short = upstream("{ endpoints: http://up.internal:8080, discover: dns }");
    let every = |seconds| Duration::from_secs(seconds);
    assert_eq!(
        short.discovery,
        Some(Discovery::Names(Names {
            record: Record::Address,
            every: every(5),
            server: None,
        }))
    );
    assert_eq!(short.endpoints[0].name, "main");
    let long = "{ endpoints: 'http://_http._tcp.up.internal', discover: { from: srv, every: 30s, server: '10.0.0.2:53' } }";
    assert_eq!(
        upstream(long).discovery,
        Some(Discovery::Names(Names {
            record: Record::Service,
            every: every(30),
            server: Some("10.0.0.2:53".parse().unwrap()),
        }))
    );
}

#[test]
fn a_list_that_may_be_told_anew_is_named_by_its_addresses() {
    let told = upstream("{ endpoints: ['http://a:1', 'http://b:2'], discover: admin }");
    assert_eq!(told.discovery, Some(Discovery::Admin));
    let names: Vec<_> = told.endpoints.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a:1", "b:2"]);
}

#[test]
fn the_first_endpoints_of_a_watched_file_are_in_it() {
    let folder = std::env::temp_dir().join(format!("outlast-discover-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let members = folder.join("members.json");
    let file = folder.join("x.yaml");
    let text = "routes: { all: { match: /**, upstream: up } }
upstreams: { up: { discover: { from: file, path: members.json } } }";
    std::fs::write(&file, text).unwrap();
    let missing = outlast_config::load(&file).unwrap_err().to_string();
    assert!(missing.contains("members.json cannot be read"), "{missing}");
    std::fs::write(&members, "{\n \"x\": \"http://a:1\",\n \"y\": \"b\"\n}").unwrap();
    let broken = outlast_config::load(&file).unwrap_err().to_string();
    assert!(
        broken.contains("members.json, line 3: `b` does not fit here"),
        "{broken}"
    );
    std::fs::write(&members, "{\"x\": \"http://a:1\"}").unwrap();
    let loaded = outlast_config::load(&file).unwrap();
    let upstream = &loaded.plan().upstreams[0];
    assert_eq!(upstream.discovery, Some(Discovery::File(members.clone())));
    assert_eq!(upstream.endpoints[0].url(), "http://a:1");
    // What the file says now is no part of what the upstream is: a reload keeps it.
    let source = upstream.source.clone();
    std::fs::write(&members, "[\"http://b:1\"]").unwrap();
    let again = outlast_config::load(&file).unwrap();
    assert_eq!(again.plan().upstreams[0].source, source);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_cannot_be_discovered_is_refused_with_the_mend() {
    let table = [
        ("{ timeout: 1s }", "an upstream lacks `endpoints`"),
        ("{ discover: dns }", "an upstream lacks `endpoints`"),
        (
            "{ endpoints: http://a, discover: dsn }",
            "or `dns`, `srv` or `admin`",
        ),
        (
            "{ endpoints: http://a, discover: { every: 1s } }",
            "discover lacks `from`",
        ),
        (
            "{ endpoints: http://10.0.0.1, discover: dns }",
            "10.0.0.1 is an address already",
        ),
        (
            "{ endpoints: 'http://[::1]:1', discover: srv }",
            "[::1] is an address already",
        ),
        (
            "{ endpoints: http://a, discover: { from: dns, every: 1ms } }",
            "write a time from `100ms` to `1h`",
        ),
        (
            "{ endpoints: http://a, discover: { from: admin, every: 1s } }",
            "`every` means nothing with `from: admin`",
        ),
        (
            "{ endpoints: http://a, discover: { from: dns, path: x } }",
            "`path` means nothing with `from: dns`",
        ),
        ("{ discover: { from: file } }", "it is not said which file"),
        (
            "{ endpoints: http://a, discover: { from: file, path: x.json } }",
            "the endpoints come from a file",
        ),
        (
            "{ endpoints: { a: http://a, b: http://b }, failover: [a, b], discover: dns }",
            "give endpoints a `priority`",
        ),
        (
            "{ endpoints: { a: { url: http://a, rewrite: /x } }, discover: admin }",
            "`a` is spoken to in a way of its own",
        ),
    ];
    for (text, expected) in table {
        let problems = refused(text);
        assert!(problems.contains(expected), "{text}: {problems}");
    }
}
