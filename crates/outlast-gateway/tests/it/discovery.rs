//! Endpoints that come and go while requests are served: from a name server, from a file that is
//! written, and told by an operator.

use std::fs;
use std::path::Path;
use std::time::Duration;

use outlast_gateway::{DiscoveryStatus, Gateway, Options};

use crate::name_server::{Forgetful, NameServer};
use crate::support::{Load, Upstream, curl, gateway, read, upstream_status, url, wait_until};

const FRONT: &str = "
gateway: { listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: 2 }
routes: { all: { match: /**, upstream: up } }
";

/// What protects a request at an endpoint that stops just as it is asked. In turn, because otherwise
/// one that was slow once, on a busy machine, is spared for long.
const RETRY: &str =
    "retry: { attempts: 3, backoff: 1ms }, budget: { reserve: 100 }, balance: round_robin";

fn discovery(gateway: &Gateway) -> DiscoveryStatus {
    let status = upstream_status(gateway, "up").discovery;
    status.expect("it is discovered")
}

/// The endpoints as `/status` tells their URLs, sorted.
fn urls(gateway: &Gateway) -> Vec<String> {
    let endpoints = upstream_status(gateway, "up").endpoints.into_iter();
    let mut urls: Vec<_> = endpoints.map(|endpoint| endpoint.url).collect();
    urls.sort();
    urls
}

fn until_urls(gateway: &Gateway, expected: &[String]) {
    let end = format!("the endpoints are {expected:?}");
    wait_until(&end, || urls(gateway) == expected);
}

fn until_error(gateway: &Gateway, part: &str) {
    wait_until(&format!("the error says {part:?}"), || {
        let error = discovery(gateway).error;
        error.is_some_and(|error| error.contains(part))
    });
}

fn no_request_failed(load: Load) {
    let results = load.end();
    let failed: Vec<_> = results.iter().filter(|one| one.0 != 200).collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        results.len()
    );
    assert!(results.len() > 100, "{} requests", results.len());
}

#[test]
fn the_addresses_of_a_name_are_followed_and_the_last_good_ones_stay() {
    let [first, second, third] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let upstreams = Upstream::at_one_port(&[first, second, third]);
    let port = upstreams[0].address.port();
    let at = |addresses: &[&str]| -> Vec<String> {
        let url = |address| format!("http://{address}:{port}");
        addresses.iter().map(url).collect()
    };
    let host = |address: &str| format!("{address} up.test");
    let [one, two, three] = [host(first), host(second), host(third)];
    let mut names = NameServer::start(&[&one, &two], &[]);
    let plan = format!(
        "{FRONT}upstreams: {{ up: {{ endpoints: 'http://up.test:{port}', {RETRY}, \
         discover: {{ from: dns, every: 100ms, server: '{}' }} }} }}",
        names.address
    );
    let gateway = gateway(&plan, &[]);
    assert_eq!(
        urls(&gateway),
        at(&[first, second]),
        "known before the first request"
    );
    let load = Load::start(&url(&gateway, "/"), 4);
    wait_until("both serve", || {
        upstreams[..2]
            .iter()
            .all(|upstream| upstream.seen().len() > 50)
    });

    names.knows(&[&two, &three]);
    until_urls(&gateway, &at(&[second, third]));
    wait_until("the newcomer serves", || upstreams[2].seen().len() > 50);
    let before = upstreams[1].seen().len();
    wait_until("who stays serves", || {
        upstreams[1].seen().len() > before + 50
    });
    let page = curl(&[&format!(
        "http://{}/metrics",
        gateway.admin_address().unwrap()
    )])
    .text();
    for sample in [
        "outlast_endpoints{upstream=\"up\"} 2\n",
        "outlast_discovery_failing{upstream=\"up\"} 0\n",
    ] {
        assert!(page.contains(sample), "{page}");
    }

    names.knows(&[]);
    until_error(&gateway, "up.test has no address");
    names.stop();
    until_error(&gateway, "up.test: ");
    assert_eq!(
        urls(&gateway),
        at(&[second, third]),
        "the last good ones stay"
    );
    let slower = plan.replace("every: 100ms", "every: 150ms");
    gateway.reload(read(&slower, &[])).unwrap();
    assert_eq!(
        urls(&gateway),
        at(&[second, third]),
        "also through a reload"
    );
    names.start_again();
    names.knows(&[&one]);
    until_urls(&gateway, &at(&[first]));
    wait_until("the error is over", || discovery(&gateway).error.is_none());
    no_request_failed(load);
}

#[test]
fn records_of_a_service_tell_ports_and_who_stands_in() {
    let mut upstreams: Vec<_> = (0..3).map(|_| Upstream::start()).collect();
    let record = |at: usize, priority: u8| {
        let port = upstreams[at].address.port();
        format!("_http._tcp.up.test,local.test,{port},{priority},10")
    };
    let services = [record(0, 10), record(1, 10), record(2, 20)];
    let names = NameServer::start(&["127.0.0.1 local.test"], &services);
    let plan = format!(
        "{FRONT}upstreams: {{ up: {{ endpoints: 'http://_http._tcp.up.test', {RETRY}, \
         discover: {{ from: srv, every: 100ms, server: '{}' }}, \
         check: {{ interval: 50ms, unhealthy_after: 1 }} }} }}",
        names.address
    );
    let gateway = gateway(&plan, &[]);
    let load = Load::start(&url(&gateway, "/"), 2);
    let served = |at: usize| upstreams[at].seen().len();
    wait_until("those of the first priority serve", || {
        served(0).min(served(1)) > 50
    });
    assert_eq!(served(2), 0, "the second has nothing to do");
    upstreams[0].stop();
    upstreams[1].stop();
    wait_until("the second stands in", || upstreams[2].seen().len() > 50);
    no_request_failed(load);
}

/// The question for the other kind of address is answered, with nothing: that says nothing of the
/// first.
#[test]
fn a_question_that_fails_is_no_answer() {
    let upstreams = [Upstream::start(), Upstream::start()];
    let ports = [0, 1].map(|at: usize| upstreams[at].address.port());
    let names = Forgetful::start(ports);
    let plan = format!(
        "{FRONT}upstreams: {{ up: {{ endpoints: 'http://_http._tcp.up.test', \
         discover: {{ from: srv, every: 100ms, server: '{}' }} }} }}",
        names.address
    );
    let gateway = gateway(&plan, &[]);
    let mut both = ports.map(|port| format!("http://127.0.0.1:{port}"));
    both.sort();
    assert_eq!(urls(&gateway), both);
    names.forgets();
    until_error(&gateway, "two.test: ");
    assert_eq!(urls(&gateway), both, "the last good address stays");
    assert_eq!(discovery(&gateway).changes, 1);
}

/// What is told while a reload is made is told to what comes of it.
#[test]
fn nothing_that_is_told_during_a_reload_is_lost() {
    let [first, second] = [Upstream::start(), Upstream::start()];
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = |timeout: &str, more: &str| {
        let endpoint = first.address;
        format!(
            "{FRONT}upstreams:
  up: {{ endpoints: ['http://{endpoint}'], discover: admin, timeout: {timeout} }}
{more}"
        )
    };
    let slow = format!(
        "  slow: {{ endpoints: 'http://slow.test', discover: {{ from: dns, server: '{}' }} }}",
        silent.local_addr().unwrap()
    );
    let gateway = gateway(&plan("5s", ""), &[]);
    std::thread::scope(|scope| {
        let next = read(&plan("4s", &slow), &[]);
        let reload = scope.spawn(|| gateway.reload(next).unwrap());
        // It looks for `slow.test` now, and for two seconds.
        silent.recv_from(&mut [0; 512]).unwrap();
        let admin = gateway.admin_address().unwrap();
        let to = format!("http://{admin}/upstreams/up/endpoints");
        let body = format!("[\"http://{}\"]", second.address);
        let told = curl(&["-X", "PUT", "--data-binary", &body, &to]);
        assert_eq!(told.status, 200);
        reload.join().unwrap();
    });
    assert_eq!(urls(&gateway), [format!("http://{}", second.address)]);
}

/// Each time another set of three, of which one always stays; at most ten changes a second are
/// followed.
#[test]
fn a_name_that_changes_a_hundred_times_a_second_stalls_nothing() {
    let addresses = [
        "127.0.0.2",
        "127.0.0.3",
        "127.0.0.4",
        "127.0.0.5",
        "127.0.0.6",
    ];
    let upstreams = Upstream::at_one_port(&addresses);
    let port = upstreams[0].address.port();
    let hosts: Vec<_> = addresses
        .iter()
        .map(|one| format!("{one} up.test"))
        .collect();
    let names = NameServer::start(&[&hosts[0]], &[]);
    let plan = format!(
        "{FRONT}upstreams: {{ up: {{ endpoints: 'http://up.test:{port}', {RETRY}, \
         discover: {{ from: dns, every: 100ms, server: '{}' }} }} }}",
        names.address
    );
    let gateway = gateway(&plan, &[]);
    let load = Load::start(&url(&gateway, "/"), 4);
    let mut pace = 0;
    wait_until("ten changes were followed", || {
        pace += 1;
        let [one, other] = [1 + pace % 4, 1 + (pace + 1) % 4];
        names.knows(&[&hosts[0], &hosts[one], &hosts[other]]);
        discovery(&gateway).changes >= 10
    });
    assert!(pace > 50, "the name changed {pace} times");
    no_request_failed(load);
    assert!(upstreams.iter().all(|upstream| !upstream.seen().is_empty()));
}

#[test]
fn a_name_server_that_is_not_there_yet_delays_the_start_by_moments_only() {
    let upstream = Upstream::start();
    let port = upstream.address.port();
    let mut names = NameServer::start(&["127.0.0.1 up.test"], &[]);
    names.stop();
    let plan = format!(
        "{FRONT}upstreams: {{ up: {{ endpoints: 'http://up.test:{port}', \
         discover: {{ from: dns, every: 100ms, server: '{}' }} }} }}",
        names.address
    );
    let gateway = gateway(&plan, &[]);
    assert_eq!(urls(&gateway), [format!("http://up.test:{port}")]);
    assert_eq!(curl(&[&url(&gateway, "/")]).status, 502);
    until_error(&gateway, "up.test: ");
    names.start_again();
    until_urls(&gateway, &[format!("http://127.0.0.1:{port}")]);
    assert_eq!(curl(&[&url(&gateway, "/")]).status, 200);
}

#[test]
fn a_watched_file_is_followed_and_half_of_one_is_not() {
    let upstreams: Vec<_> = (0..3).map(|_| Upstream::start()).collect();
    let at = |at: usize| format!("http://{}", upstreams[at].address);
    let list = |all: &[usize]| {
        let all: Vec<_> = all.iter().map(|&one| at(one)).collect();
        serde_json::to_string_pretty(&all).unwrap()
    };
    let sorted = |all: &[usize]| {
        let mut all: Vec<_> = all.iter().map(|&one| at(one)).collect();
        all.sort();
        all
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("endpoints.json");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write(&list(&[0, 1]));
    let gateway = gateway(&from_file(&file), &[]);
    assert_eq!(urls(&gateway), sorted(&[0, 1]));
    let load = Load::start(&url(&gateway, "/"), 4);

    let next = list(&[1, 2]);
    write(&next[..next.len() / 2]);
    until_error(&gateway, "endpoints.json");
    assert_eq!(urls(&gateway), sorted(&[0, 1]), "the last good ones stay");
    write(&next);
    until_urls(&gateway, &sorted(&[1, 2]));
    wait_until("the newcomer serves", || upstreams[2].seen().len() > 50);
    assert_eq!(discovery(&gateway).error, None);

    fs::remove_file(&file).unwrap();
    until_error(&gateway, "No such file");
    write("[]");
    until_error(&gateway, "these are 0 endpoints");
    write(&" ".repeat(1024 * 1024 + 1));
    until_error(&gateway, "more than 1 MiB");
    assert_eq!(urls(&gateway), sorted(&[1, 2]), "the last good ones stay");
    // The same once more, and then another one in the way that ConfigMaps change.
    write(&next);
    wait_until("it is good again", || discovery(&gateway).error.is_none());
    let other = folder.path().join("other.json");
    fs::write(&other, list(&[0])).unwrap();
    fs::rename(&other, &file).unwrap();
    until_urls(&gateway, &sorted(&[0]));
    no_request_failed(load);
}

fn from_file(file: &Path) -> String {
    let path = file.display();
    format!("{FRONT}upstreams: {{ up: {{ {RETRY}, discover: {{ from: file, path: '{path}' }} }} }}")
}

/// What is missing is another file: nobody has to write the first one again.
#[test]
fn a_file_that_could_not_be_used_is_tried_again() {
    let upstream = Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let [file, roots] = ["endpoints.json", "roots.pem"].map(|name| folder.path().join(name));
    let plain = format!("http://{}", upstream.address);
    fs::write(&file, format!("[\"{plain}\"]")).unwrap();
    let plan = format!(
        "{FRONT}upstreams: {{ up: {{ tls: {{ roots: '{}' }}, \
         discover: {{ from: file, path: '{}' }} }} }}",
        roots.display(),
        file.display()
    );
    let gateway = gateway(&plan, &[]);
    fs::write(&file, "[\"https://secure.test\"]").unwrap();
    until_error(&gateway, "roots.pem");
    assert_eq!(urls(&gateway), [plain]);
    let certificate = rcgen::generate_simple_self_signed(["secure.test".to_owned()]).unwrap();
    fs::write(&roots, certificate.cert.pem()).unwrap();
    until_urls(&gateway, &["https://secure.test:443".to_owned()]);
    wait_until("the error is over", || discovery(&gateway).error.is_none());
}

#[test]
fn an_operator_tells_endpoints_and_what_cannot_be_is_refused() {
    let upstreams: Vec<_> = (0..3).map(|_| Upstream::start()).collect();
    let at = |at: usize| format!("http://{}", upstreams[at].address);
    let plan = |timeout: &str| {
        format!(
            "{FRONT}upstreams:
  up: {{ endpoints: ['{}'], discover: admin, timeout: {timeout}, {RETRY} }}
  checked: {{ endpoints: ['{}'], discover: admin, check: {{ grpc: '' }} }}
  fixed: {{ endpoints: '{}' }}",
            at(0),
            at(0),
            at(0)
        )
    };
    let gateway = Gateway::start(read(&plan("5s"), &[]), Options::default()).unwrap();
    let put = |upstream: &str, body: &str| {
        let admin = gateway.admin_address().unwrap();
        let to = format!("http://{admin}/upstreams/{upstream}/endpoints");
        curl(&["-X", "PUT", "--data-binary", body, &to])
    };
    let load = Load::start(&url(&gateway, "/"), 4);
    wait_until("the first serves", || upstreams[0].seen().len() > 50);
    let told = format!(
        "{{\"b\": \"{}\", \"c\": {{\"url\": \"{}\", \"weight\": 3}}}}",
        at(1),
        at(2)
    );
    let answer = put("up", &told);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["endpoints"], serde_json::json!(["b", "c"]));
    assert_eq!(
        (&answer.json()["joined"], &answer.json()["left"]),
        (&2.into(), &1.into())
    );
    let before = upstreams[0].seen().len();
    wait_until("both serve", || {
        upstreams[1..].iter().all(|one| one.seen().len() > 50)
    });
    assert!(
        upstreams[0].seen().len() <= before + 4,
        "only what was under way"
    );
    assert_eq!(
        put("up", &told).json()["joined"],
        0,
        "the same changes nothing"
    );
    assert_eq!(discovery(&gateway).changes, 1);

    // A reload that changes something else keeps them.
    let reloaded = gateway.reload(read(&plan("4s"), &[])).unwrap();
    assert_eq!(reloaded.new_upstreams(), 1);
    let mut both = [at(1), at(2)];
    both.sort();
    assert_eq!(urls(&gateway), both);

    for (upstream, body, status, part) in [
        ("up", "", 400, "no JSON list"),
        ("up", "[]", 400, "these are 0 endpoints"),
        ("up", "[\"http://a:1\"", 400, "--> body:"),
        ("up", "[\"https://a..b\"]", 422, "no server name"),
        ("checked", "[\"https://a\"]", 422, "in clear text only"),
        ("fixed", "[\"http://a:1\"]", 409, "discover: admin"),
        ("nobody", "[\"http://a:1\"]", 404, "no upstream"),
    ] {
        let answer = put(upstream, body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    assert_eq!(urls(&gateway), both, "the last good ones stay");
    no_request_failed(load);
}

/// The connection of an answer that is being read ends with it, also where the endpoint has left.
#[test]
fn an_answer_that_is_under_way_ends_although_its_endpoint_has_left() {
    let [slow, other] = [Upstream::start(), Upstream::start()];
    slow.takes(Duration::from_millis(500));
    let plan = format!(
        "{FRONT}upstreams: {{ up: {{ endpoints: ['http://{}'], discover: admin }} }}",
        slow.address
    );
    let gateway = gateway(&plan, &[]);
    let asked = {
        let url = url(&gateway, "/");
        std::thread::spawn(move || curl(&[&url]).status)
    };
    wait_until("it is asked", || slow.seen().len() == 1);
    let admin = gateway.admin_address().unwrap();
    let to = format!("http://{admin}/upstreams/up/endpoints");
    let body = format!("[\"http://{}\"]", other.address);
    assert_eq!(
        curl(&["-X", "PUT", "--data-binary", &body, &to]).status,
        200
    );
    assert_eq!(curl(&[&url(&gateway, "/")]).status, 200);
    assert_eq!(other.seen().len(), 1);
    assert_eq!(asked.join().unwrap(), 200);
    assert_eq!(slow.cancelled(), 0);
}
