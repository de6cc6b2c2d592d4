//! Several endpoints, as an application sees them: probes, keys, zones, and endpoints that change.

use std::collections::HashMap;
use std::future::{pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast::balance::{self, Endpoint, Unusable};
use outlast::check::{self, State};
use outlast::reject::Reason;
use outlast::{Config, Setup, Upstream, eject, observe, retry};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn checked(names: &[&str]) -> Upstream {
    let checks = check::Config::default()
        .interval(SECOND)
        .timeout(SECOND / 2);
    let balance = balance::Config::default().check(checks);
    let config = Config::new("db").balance(balance);
    let config = names
        .iter()
        .fold(config, |config, &name| config.endpoint(name));
    Upstream::new(config).unwrap()
}

fn state(upstream: &Upstream, endpoint: &str) -> Option<State> {
    let stats = upstream.stats();
    stats.endpoint(endpoint)?.balance.as_ref()?.check
}

/// When each endpoint was probed.
type Log = Arc<Mutex<Vec<(String, Instant)>>>;

/// Probes by the name: some hang, some panic, here or there.
fn spawn_probes(upstream: &Upstream) -> (Log, tokio::task::JoinHandle<std::convert::Infallible>) {
    let log = Log::default();
    let noted = Arc::clone(&log);
    let checking = upstream.check_endpoints(move |probe| {
        let name = probe.endpoint().to_owned();
        assert_eq!(probe.timeout(), SECOND / 2);
        noted.lock().unwrap().push((name.clone(), Instant::now()));
        assert!(!name.starts_with("at once"), "this probe cannot be made");
        async move {
            match name.as_str() {
                "hangs" => pending().await,
                "panics" => panic!("this probe is broken"),
                "slow" => sleep(SECOND * 2 / 5).await,
                "too slow" => sleep(SECOND * 3 / 5).await,
                _ => {}
            }
            name != "down"
        }
    });
    (log, tokio::spawn(checking.unwrap()))
}

#[tokio::test(start_paused = true)]
async fn probes_that_hang_or_panic_have_failed_and_delay_nobody_else() {
    let names = [
        "up",
        "slow",
        "down",
        "hangs",
        "panics",
        "too slow",
        "at once a panic",
    ];
    let db = checked(&names);
    let (log, probes) = spawn_probes(&db);
    sleep(10 * SECOND).await;
    for name in names {
        let expected = if ["up", "slow"].contains(&name) {
            State::Up
        } else {
            State::Down
        };
        assert_eq!(state(&db, name), Some(expected), "{name}");
    }
    let log = log.lock().unwrap().clone();
    let of = |name: &str| log.iter().filter(|(one, _)| one == name).count();
    assert!((8..=12).contains(&of("up")), "{}", of("up"));
    // From the end of one probe to the next.
    assert!((5..=9).contains(&of("hangs")), "{}", of("hangs"));
    assert!(!probes.is_finished());
    probes.abort();
}

#[tokio::test(start_paused = true)]
async fn newcomers_are_probed_within_an_interval_and_those_that_left_no_more() {
    let db = checked(&["a", "b"]);
    let (log, probes) = spawn_probes(&db);
    sleep(5 * SECOND).await;
    let changed = Instant::now();
    db.set_endpoints(["b", "down"].map(Endpoint::new).into())
        .unwrap();
    sleep(4 * SECOND).await;
    let log = log.lock().unwrap().clone();
    let of = |name: &str| {
        log.iter()
            .filter(|(one, _)| one == name)
            .map(|&(_, at)| at)
            .collect()
    };
    let (a, b, down): (Vec<_>, Vec<_>, Vec<_>) = (of("a"), of("b"), of("down"));
    assert!(a.iter().all(|&at| at <= changed) && a.len() >= 4);
    assert!(b.len() >= 7, "{b:?}");
    assert!(down[0] <= changed + SECOND, "{down:?}");
    assert_eq!(state(&db, "b"), Some(State::Up));
    assert_eq!(state(&db, "down"), Some(State::Down));
    probes.abort();
}

#[tokio::test(start_paused = true)]
async fn ejections_end_without_a_call_while_somebody_probes() {
    let balance = balance::Config::default()
        .check(check::Config::default().interval(100 * SECOND))
        .eject(eject::Config::default().consecutive(1));
    let db = Upstream::new(
        Config::new("db")
            .endpoint("a")
            .endpoint("b")
            .balance(balance),
    )
    .unwrap();
    let unusable = || {
        let stats = db.stats();
        let endpoints = stats.endpoints.iter();
        let views = endpoints.filter_map(|one| one.balance.as_ref()?.unusable);
        views.collect::<Vec<_>>()
    };
    let (_, probes) = (
        0,
        tokio::spawn(db.check_endpoints(|_| ready(true)).unwrap()),
    );
    assert!(db.call(|_| ready(Err::<(), _>("down"))).await.is_err());
    assert!(matches!(unusable()[..], [Unusable::Ejected(_)]));
    sleep(130 * SECOND).await;
    assert_eq!(unusable(), []);
    probes.abort();
}

#[test]
fn checks_without_settings_are_refused_and_threads_probe_by_themselves() {
    let plain = Upstream::new(Config::new("db").endpoint("a").endpoint("b")).unwrap();
    let error = plain.check_endpoints(|_| ready(true)).err().unwrap();
    assert_eq!(error.setting(), "balance.check");
    assert!(plain.next_check("a").is_none() && !plain.checked("a", true));
    let db = checked(&["a", "b"]);
    assert!(db.next_check("a").is_some() && db.next_check("c").is_none());
    assert!((0..3).all(|_| db.checked("a", false)) && !db.checked("c", true));
    assert_eq!(state(&db, "a"), Some(State::Down));
}

#[tokio::test]
async fn equal_keys_meet_the_same_endpoint() {
    let balance = balance::Config::new(balance::Kind::HASH);
    let mut config = Config::new("cache").balance(balance);
    for number in 0..8 {
        config = config.endpoint(format!("cache-{number}"));
    }
    let cache = Upstream::new(config).unwrap();
    let mut met: HashMap<String, u32> = HashMap::new();
    for user in 0..100 {
        let key = ("user", user);
        let ask = || cache.caller().affinity(key);
        let there = ask().call(|attempt| ready(Ok::<_, ()>(attempt.endpoint().to_owned())));
        let here = ask().call_blocking(|attempt| Ok::<_, ()>(attempt.endpoint().to_owned()));
        let there = there.await.unwrap();
        assert_eq!(here.unwrap(), there);
        *met.entry(there).or_default() += 1;
    }
    assert_eq!(met.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn endpoints_change_under_calls_that_run() {
    let config = Config::new("db").retry(retry::Config::attempts(2).backoff(SECOND));
    let db = Upstream::new(config).unwrap();
    let seen = Mutex::new(Vec::new());
    let call = db.call(|attempt| {
        seen.lock()
            .unwrap()
            .push((attempt.endpoint().to_owned(), attempt.endpoint_index()));
        let number = attempt.number();
        async move {
            sleep(SECOND).await;
            if number == 1 { Err("gone") } else { Ok(7) }
        }
    });
    let change = async {
        sleep(SECOND / 2).await;
        let endpoint = Endpoint::new("a-name-that-is-longer-than-the-twenty-three-bytes-inline");
        db.set_endpoints(vec![endpoint]).unwrap()
    };
    let (answer, members) = tokio::join!(call, change);
    assert_eq!(answer, Ok(7));
    let name = members.name(1).unwrap().to_owned();
    assert_eq!(
        *seen.lock().unwrap(),
        [("main".to_owned(), 0), (name.clone(), 1)]
    );
    assert!(
        !db.force_breaker(&name, outlast::breaker::Manual::Open),
        "there is none"
    );
    assert!(db.end_pause(&name) && !db.end_pause("main"));
}

#[tokio::test]
async fn a_zone_is_evacuated_and_returns() {
    let balance = balance::Config::default().zones(["north", "south"]);
    let zoned = |name: &str, zone: &str| Endpoint::new(name).zone(zone);
    let config = Config::new("db").balance(balance);
    let config = config
        .endpoint_with(zoned("n", "north"))
        .endpoint_with(zoned("s", "south"));
    let db = Upstream::new(config).unwrap();
    let ask = async || {
        let call = db.call(|attempt| ready(Ok::<_, ()>(attempt.endpoint().to_owned())));
        call.await
            .map_err(|error| error.rejection().map(|rejection| rejection.reason))
    };
    assert_eq!(ask().await.as_deref(), Ok("n"));
    assert!(db.evacuate_zone("north") && !db.evacuate_zone("west"));
    assert_eq!(ask().await.as_deref(), Ok("s"));
    assert!(db.evacuate_zone("south"));
    assert_eq!(ask().await, Err(Some(Reason::Unhealthy)));
    assert!(db.return_zone("south") && !db.return_zone("south"));
    assert_eq!(ask().await.as_deref(), Ok("s"));
}

/// What the ready-made observers write of redundancy is looked at by name.
#[test]
fn the_observers_count_ejections_and_changes() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let balance = balance::Config::default()
            .check(check::Config::default().unhealthy_after(1))
            .eject(eject::Config::default().consecutive(1));
        let zoned = |name: &str| Endpoint::new(name).zone("north");
        let config = Config::new("db").balance(balance).endpoint_with(zoned("a"));
        let setup = Setup::default().observer(observe::Metrics);
        let db = Upstream::with(config.endpoint_with(zoned("b")), setup).unwrap();
        let _ = db.call_blocking(|_| Err::<(), _>("down"));
        db.checked("a", false);
        db.evacuate_zone("north");
        db.set_endpoints(vec![zoned("a"), zoned("b"), zoned("c")])
            .unwrap();
    });
    let keys = snapshotter.snapshot().into_vec();
    let names: Vec<_> = keys.iter().map(|(key, ..)| key.key().name()).collect();
    for name in [
        "outlast_ejections_total",
        "outlast_endpoint_ejected",
        "outlast_endpoint_up",
        "outlast_zone_evacuated",
        "outlast_endpoints",
        "outlast_membership_changes_total",
    ] {
        assert!(names.contains(&name), "{name} of {names:?}");
    }
}
