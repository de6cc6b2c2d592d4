//! Parts of a world by themselves: networks, calls at once, hints of servers, caches that fill,
//! checks, restarts.

use std::time::Duration;

use outlast_core::ratio::Ratio;
use outlast_core::upstream::Config;
use outlast_core::{balance, check, deadline, reject::Reason, retry};
use outlast_sim::{Change, Client, Curve, Law, Liveness, Model, Place, Plain, Refusal, Service};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn fixed(millis: u32) -> Service {
    Service::new(Law::fixed(millis * MS))
}

#[test]
fn a_way_takes_its_time_there_and_back() {
    let mut model = Model::new(1);
    let near = model.service(fixed(10));
    let far = model.service(fixed(10).queue(0).workers(1));
    let close = model
        .upstream_at(Config::new("near"), &[Place::any(near).distance(MS)])
        .unwrap();
    let through = model.plain(Plain::new(), &[far]);
    let abroad = Config::new("far").retry(retry::Config::attempts(1));
    let place = Place::replica(far, 0).distance(40 * MS);
    let away = model.upstream_at(abroad, &[place]).unwrap();
    let local = model.client(Client::steady(through, 2 * SECOND));
    let close = model.client(Client::steady(close, SECOND));
    let away = model.client(Client::steady(away, SECOND));
    model.change(5500 * MS, far, Change::Refuses(true));
    let report = model.run(10 * SECOND).unwrap();
    let took = |client| report.client(client).latency.mean();
    assert_eq!(
        (took(local), took(close), took(away)),
        (10 * MS, 12 * MS, 90 * MS)
    );
    assert_eq!(
        report.client(away).good,
        6,
        "refused from the sixth second on"
    );
    assert_eq!(report.client(away).failed, 4);
}

#[test]
fn what_is_lost_far_away_is_answered_once() {
    let mut model = Model::new(1);
    let db = model.service(fixed(10));
    let place = Place::replica(db, 0).distance(40 * MS);
    let once = Config::new("db").retry(retry::Config::attempts(1));
    let through = model.upstream_at(once, &[place]).unwrap();
    let shop = model.client(Client::steady(through, SECOND));
    // It is worked on from 40 ms on, and would have been until 50 ms.
    model.change(1045 * MS, db, Change::Refuses(true));
    model.change(1500 * MS, db, Change::Refuses(false));
    let report = model.run(4 * SECOND).unwrap();
    let shop = report.client(shop);
    assert_eq!((shop.good, shop.failed), (3, 1));
    let db = report.service(db);
    assert_eq!((db.came, db.answered, db.peak), (4, 3, 1));
}

#[test]
fn calls_at_once_take_as_long_as_the_longest_and_fail_with_the_first() {
    let check = |broken: bool, good: u64, took: Duration| {
        let mut model = Model::new(1);
        let (quick, slow) = (model.service(fixed(10)), model.service(fixed(50)));
        let last = model.service(fixed(5).failures(f64::from(u8::from(broken))));
        let once = Plain::new();
        let [quick, slow_one, last] =
            [quick, slow, last].map(|service| model.plain(once.clone(), &[service]));
        let both = [vec![quick], vec![slow_one], vec![last]];
        let page = fixed(1).calls_at_once(&both).calls(quick);
        let page = model.service(page);
        let page_calls = model.plain(once, &[page]);
        let reader = model.client(Client::steady(page_calls, SECOND));
        let report = model.run(10 * SECOND).unwrap();
        assert_eq!(report.client(reader).good, good);
        assert_eq!(report.client(reader).latency.mean(), took);
        assert_eq!(report.service(slow).wasted, if broken { 10 } else { 0 });
        assert_eq!(
            report.service(page).stays / 10,
            if broken { 6 * MS } else { 61 * MS }
        );
    };
    check(false, 10, 61 * MS);
    check(true, 0, Duration::ZERO);
}

#[test]
fn a_hint_of_a_server_keeps_everybody_away() {
    let run = |refusal| {
        let mut model = Model::new(1);
        let db = model.service(fixed(10).refusal(refusal));
        let policies = Config::new("db").retry(retry::Config::attempts(3));
        let through = model.upstream(policies, &[db]).unwrap();
        let client = model.client(Client::steady(through, 100 * MS));
        model.change(10 * SECOND, db, Change::Refuses(true));
        model.change(11 * SECOND, db, Change::Refuses(false));
        let report = model.run(20 * SECOND).unwrap();
        let seconds = &report.client(client).seconds;
        let during: u32 = seconds[10..12].iter().map(|second| second.attempts).sum();
        (during, report.client(client).good)
    };
    let (blind, _) = run(Refusal::Unsent);
    let after = 2 * SECOND;
    let (told, good) = run(Refusal::ComeBack {
        after,
        spread: SECOND,
    });
    assert!(blind > 20, "some attempts are made again: {blind}");
    assert_eq!(
        told, 20,
        "no extra attempt before the time that was asked for"
    );
    assert!(good > 190, "and some afterwards: {good}");
}

#[test]
fn what_is_slow_and_what_warms_up_takes_longer() {
    let mut model = Model::new(1);
    let db = model.service(fixed(10));
    let through = model.plain(Plain::new(), &[db]);
    let client = model.client(Client::steady(through, SECOND));
    model.sample(SECOND);
    model.change(2500 * MS, db, Change::Speed(0.1));
    let warms = Change::Warms {
        from: 0.2,
        over: 4 * SECOND,
    };
    model.change(4 * SECOND, db, Change::Speed(1.0));
    model.change(4 * SECOND, db, warms);
    let report = model.run(9 * SECOND).unwrap();
    let times = &report.client(client).times;
    let took: Vec<_> = times
        .iter()
        .map(|times| times.quantile(0.5).unwrap().as_millis())
        .collect();
    // In steps of an eighth: 10, 100, 50, 25, 16.7, 12.5 and 10 ms.
    assert_eq!(took, [10, 10, 10, 100, 50, 25, 16, 12, 10]);
    let present = report.samples.iter().map(|sample| sample.present(db));
    assert_eq!(present.collect::<Vec<_>>(), [1; 9]);
}

#[test]
fn alike_clients_have_policies_of_their_own() {
    let mut model = Model::new(1);
    let db = model.service(fixed(1).failures(1.0));
    let policies = || Config::new("db").breaker(outlast_core::breaker::Config::consecutive(5));
    let mut upstreams: Vec<_> = (0..20)
        .map(|_| model.upstream(policies(), &[db]).unwrap())
        .collect();
    let first = upstreams.remove(0);
    let load = Curve::level(400.0);
    let client = model.client(Client::open(first, load).or_through(&upstreams));
    model.sample(SECOND);
    let report = model.run(2 * SECOND).unwrap();
    let open = |sample: &outlast_sim::Sample| -> u32 {
        let others: u32 = upstreams.iter().map(|one| sample.open(*one)).sum();
        others + sample.open(first)
    };
    assert_eq!(open(&report.samples[1]), 20);
    let attempts = report.client(client).attempts;
    assert_eq!(attempts, 20 * 5, "each has to find out by itself");
}

/// Seconds without a good answer of forty instances, whose cache is away for half a minute, by who
/// asks about the cache.
fn failover(ready: bool, alive: bool) -> usize {
    let mut model = Model::new(1);
    let cache = model.service(fixed(1));
    let mut app = fixed(5).replicas(40);
    if ready {
        app = app.ready_with(&[cache]);
    }
    if alive {
        let liveness = Liveness::new(&[cache])
            .every(5 * SECOND)
            .failures(3)
            .restart(20 * SECOND);
        app = app.liveness(liveness.warms(0.5, 10 * SECOND));
    }
    let app = model.service(app);
    let checks = check::Config::default()
        .interval(2 * SECOND)
        .unhealthy_after(2)
        .healthy_after(1);
    let balanced = balance::Config::default().check(checks).panic(Ratio::ZERO);
    let through = model
        .upstream(Config::new("app").balance(balanced), &[app])
        .unwrap();
    let client = model.client(Client::open(through, Curve::level(200.0)));
    model.change(60 * SECOND, cache, Change::Refuses(true));
    model.change(90 * SECOND, cache, Change::Refuses(false));
    let report = model.run(180 * SECOND).unwrap();
    let seconds = &report.client(client).seconds;
    seconds.iter().filter(|second| second.good == 0).count()
}

#[test]
fn who_asks_about_what_it_depends_on_makes_an_outage_longer() {
    assert_eq!(failover(false, false), 0);
    let ready = failover(true, false);
    assert!(
        (24..=30).contains(&ready),
        "as long as the cache is away: {ready}"
    );
    assert!(failover(false, true) > 0, "restarted all together");
    let both = failover(true, true);
    assert!(both > ready, "and then they start: {both} after {ready}");
}

#[test]
fn who_waits_is_served_before_who_tries_again() {
    let mut model = Model::new(1);
    let db = model.service(fixed(10).workers(1).failures(1.0));
    let again = model.plain(Plain::new().attempts(2), &[db]);
    let once = model.plain(Plain::new().timeout(15 * MS), &[db]);
    model.client(Client::steady(again, 50 * MS));
    model.client(Client::steady(once, 50 * MS));
    let report = model.run(40 * MS).unwrap();
    // The first fails at 10 ms. Who waits has its turn then, while it still has patience, and who tries
    // again at once comes after it.
    let db = report.service(db);
    assert_eq!((db.answered, db.waits, db.late), (3, 20 * MS, 0));
}

#[test]
fn what_stands_still_for_ever_is_left_alone() {
    let mut model = Model::new(1);
    let db = model.service(fixed(10).workers(1));
    let late = Curve::level(0.0).jump(3 * SECOND, 1.0);
    let late = model.service(fixed(10).speed(late));
    let [never, at_last] = [db, late].map(|service| model.plain(Plain::new(), &[service]));
    let never = model.client(Client::steady(never, 10 * MS));
    let at_last = model.client(Client::steady(at_last, 10 * MS));
    model.change(SECOND, db, Change::Speed(0.0));
    model.most_events(3000);
    let report = model.run(2 * SECOND).unwrap();
    assert_eq!(report.client(never).calls, 200);
    assert_eq!(report.client(never).good, 100, "until it stands still");
    assert_eq!(report.client(at_last).good, 200);
}

#[test]
fn what_hangs_is_found_by_its_checks() {
    let run = |checked: bool| {
        let mut model = Model::new(1);
        let db = model.service(fixed(5).replicas(4));
        let checks = checked.then(|| check::Config::default().unhealthy_after(1));
        let balanced = balance::Config::new(balance::Kind::RoundRobin).check(checks);
        let policies = Config::new("db")
            .balance(balanced)
            .retry(retry::Config::attempts(1))
            .deadline(deadline::Config::default().attempt(SECOND));
        let through = model.upstream(policies, &[db]).unwrap();
        let client = model.client(Client::open(through, Curve::level(100.0)));
        model.change_one(10 * SECOND, db, 0, Change::Holds(true));
        let report = model.run(100 * SECOND).unwrap();
        let client = report.client(client);
        client.calls - client.good
    };
    let (blind, checked) = (run(false), run(true));
    assert!(
        blind > 0 && checked > 0 && checked * 4 < blind,
        "{checked} and {blind} fail"
    );
}

#[test]
fn what_is_begun_after_its_deadline_is_counted() {
    let mut model = Model::new(1);
    let db = model.service(fixed(100).workers(1));
    let through = model.plain(Plain::new().timeout(SECOND), &[db]);
    let client = model.client(Client::steady(through, 50 * MS));
    let report = model.run(10 * SECOND).unwrap();
    let db = report.service(db);
    assert!(db.late > 0 && db.late < db.wasted, "{db:?}");
    assert_eq!(report.client(client).rejected[Reason::Deadline.index()], 0);
}
