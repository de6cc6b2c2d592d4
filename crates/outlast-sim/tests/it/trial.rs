//! Scenarios as small texts: what is read is what runs, and what runs is what is measured.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outlast_sim::scenario::{Batch, Failure, Head, Run, Scaled, Trial, batch, head_room};

/// One attempt at a database, and nothing else.
const ONCE: &str = "upstreams: { db: { endpoints: http://db:1 } }";
const STEADY: &str = "clients: { shop: { upstream: db, every: 100ms } }";
const MS: Duration = Duration::from_millis(1);

#[test]
fn recovery_is_until_calls_do_well_and_until_old_ones_have_ended() {
    let check = |policy: &str, change: &str, well: Duration, quiet: Duration, recovered: bool| {
        let text = format!(
            "for: 40s\nservices: {{ db: {{ work: 20ms }} }}\n\
             clients: {{ shop: {{ upstream: db, every: 100ms, deadline: 10s }} }}\n\
             timeline: [ {{ service: db, from: 10s, to: 12s, {change} }} ]\npromises: [ recovery < 1h ]"
        );
        let (trial, run) = one(policy, &text);
        let found = run.recovery.unwrap();
        assert_eq!((found.well, found.recovered), (well, recovered), "{change}");
        let off = found.quiet.abs_diff(quiet);
        assert!(off <= 100 * MS, "{change}: {:?}", found.quiet);
        assert_eq!(found.time(), found.well.max(found.quiet));
        assert_eq!(run.keeps(0, &trial.scenario().promises[0]), recovered);
    };
    let zero = Duration::ZERO;
    check(ONCE, "fault: away", zero, zero, true);
    // The last call of the outage is made again after five seconds.
    let again = "upstreams: { db: { endpoints: http://db:1, retry: { attempts: 2, backoff: 5s }, \
                 budget: off } }";
    check(again, "fault: away", zero, 4900 * MS, true);
    // An attempt may take 50 ms, which it does from 40 % of the speed on.
    let hasty = "upstreams: { db: { endpoints: http://db:1, timeout: 50ms } }";
    let slow = "fault: away, warms: { from: 10%, over: 9s }";
    check(hasty, slow, 3000 * MS, zero, true);
    let slower = "fault: away, warms: { from: 10%, over: 9m }";
    check(hasty, slower, 28_000 * MS, zero, false);
}

#[test]
fn how_likely_it_recovers_is_counted_over_runs() {
    let recovered = |queue: u32| {
        // HotOS'25: one thread of 10/s, five seconds of patience, five retries (row M03), in short.
        let policy = "upstreams: { db: { endpoints: http://db:1, timeout: 5s, budget: off, \
                      retry: { attempts: 6, backoff: 1ms } } }";
        let text = format!(
            "for: 400s\nwarm_up: 10s\nservices: {{ db: {{ work: {{ exponential: 100ms }}, workers: 1, \
             queue: {queue} }} }}\nclients: {{ shop: {{ upstream: db, rate: 5/s }} }}\n\
             timeline: [ {{ client: shop, from: 50s, to: 150s, load: 300% }} ]"
        );
        let share = batch_of(&trial(policy, &text), 10).recovered().unwrap();
        assert_eq!(share.of, 10);
        assert!(share.low <= share.share() && share.share() <= share.high);
        share.yes
    };
    assert_eq!((recovered(35), recovered(150)), (10, 0));
    let text = format!("for: 5s\nservices: {{ db: {{ work: 1ms }} }}\n{STEADY}");
    assert!(batch_of(&trial(ONCE, &text), 2).recovered().is_none());
}

#[test]
fn a_promise_may_hold_in_a_share_of_the_runs() {
    // One call a run, which fails as often as not.
    let text = "for: 10s\nservices: { db: { work: 1ms, failures: 50% } }\n\
                clients: { shop: { upstream: db, every: 10s } }\n\
                promises: [ goodput >= 50% in 30% of runs, goodput >= 50% in 95% of runs, goodput >= 50% ]";
    let trial = trial(ONCE, text);
    let batch = batch_of(&trial, 40);
    let kept = batch.kept(&trial.scenario().promises);
    let shares: Vec<_> = kept.iter().map(|kept| kept.share.yes).collect();
    assert!((12..=28).contains(&shares[0]), "{shares:?}");
    assert_eq!((shares[1], shares[2]), (shares[0], shares[0]));
    let verdicts: Vec<_> = kept.iter().map(|kept| kept.kept).collect();
    assert_eq!(verdicts, [true, false, false]);
}

#[test]
fn a_promise_is_about_its_time() {
    let text = format!(
        "for: 30s\nservices: {{ db: {{ work: 5ms }} }}\n{STEADY}\n\
         timeline: [ {{ service: db, from: 10s, to: 20s, fault: away }} ]\npromises:\n\
         - goodput >= 1%\n- goodput >= 1% before faults\n- goodput >= 1% during faults\n\
         - goodput >= 1% within 2s of recovery\n- goodput >= 1% from 5s to 15s\n\
         - availability >= 1%\n- availability >= 1% from 5s to 15s\n- attempts/calls <= 1\n\
         - rejected <= 1%\n- recovery <= 1s\n- p99 < 1s during faults\n- p99 < 6ms before faults"
    );
    let (trial, run) = one(ONCE, &text);
    let found: Vec<_> = run.measured.iter().map(|value| value.map(round)).collect();
    let expected = [
        Some(0.667),
        Some(1.0),
        Some(0.0),
        Some(1.0),
        Some(0.5),
        Some(0.667),
        Some(0.5),
        Some(1.0),
        Some(0.0),
        Some(0.0),
        None,
        Some(0.005),
    ];
    assert_eq!(found, expected);
    let promises = &trial.scenario().promises;
    assert!(
        !run.keeps(10, &promises[10]),
        "there was nothing to measure"
    );
}

#[test]
fn a_promise_is_about_its_client_or_service() {
    let policy = "upstreams:\n  good: { endpoints: http://good:1 }\n  bad: { endpoints: http://bad:1, \
                  timeout: 50ms, retry: { attempts: 2, backoff: 1ms }, budget: off }";
    let text = "for: 10s\nservices: { good: { work: 10ms }, bad: { work: 120ms, workers: 1 } }\n\
                clients: { one: { upstream: good, every: 100ms }, other: { upstream: bad, every: 1s } }\n\
                promises:\n- goodput of one >= 99%\n- goodput of other >= 99%\n- goodput >= 99%\n\
                - attempts/calls of one <= 1\n- attempts/calls of other <= 1\n- peak of good <= 1\n\
                - peak of bad <= 1\n- wasted of good <= 1%\n- wasted of bad <= 1%\n- no wasted work of good\n\
                - no wasted work after deadline of bad\n- rejected of one <= 1%\n- p99 of one < 20ms";
    let (_, run) = one(policy, text);
    let found: Vec<_> = run
        .measured
        .iter()
        .map(|value| round(value.unwrap()))
        .collect();
    let goodput = round(100.0 / 110.0);
    // The second attempt waits for the worker while its deadline passes.
    let late = 10.0;
    let expected = [
        1.0, 0.0, goodput, 1.0, 2.0, 1.0, 2.0, 0.0, 1.0, 0.0, late, 0.0, 0.01,
    ];
    assert_eq!(found, expected);
}

#[test]
fn head_room_of_load_is_where_the_queue_begins_to_grow() {
    // A call each 20 ms takes 10 ms: at twice the load the worker is busy all the time.
    let text = "for: 20s\nwarm_up: 2s\nservices: { db: { work: 10ms, workers: 1 } }\n\
                clients: { shop: { upstream: db, every: 20ms, deadline: 50ms } }\n\
                promises: [ goodput >= 99% ]";
    let head = limit(&trial(ONCE, text), Scaled::Load);
    assert!((1.95..=2.0).contains(&head.holds), "{head:?}");
    assert!((2.0..=2.05).contains(&head.breaks.unwrap()), "{head:?}");
    // At random: in an M/D/1 queue the share (1 - rho) e^(lambda t) waits for less than t, if t is less
    // than the work. For 5 ms of 10 ms that is a half at rho = 0.637, which is 3.18 times 20/s.
    let hasty = "upstreams: { db: { endpoints: http://db:1, timeout: 15ms } }";
    let text = "for: 300s\nwarm_up: 2s\nservices: { db: { work: 10ms, workers: 1 } }\n\
                clients: { shop: { upstream: db, rate: 20/s } }\npromises: [ goodput >= 50% ]";
    let head = limit(&trial(hasty, text), Scaled::Load);
    let middle = f64::midpoint(head.holds, head.breaks.unwrap());
    assert!((middle / 3.184 - 1.0).abs() < 0.05, "{head:?}");
}

#[test]
fn head_room_of_a_trigger_is_how_long_it_may_last() {
    // Who waits for two seconds hears of a network that hangs for one, or for two.
    let patient = "upstreams: { db: { endpoints: http://db:1, timeout: 2s } }";
    let text = "for: 30s\nservices: { db: { work: 1ms } }\n\
                clients: { shop: { upstream: db, every: 50ms } }\n\
                timeline: [ { service: db, from: 10s, to: 11s, fault: hangs } ]\n\
                promises: [ goodput >= 100% ]";
    let head = limit(&trial(patient, text), Scaled::Trigger);
    assert!((1.9..=2.05).contains(&head.holds), "{head:?}");
    assert!((1.95..=2.1).contains(&head.breaks.unwrap()), "{head:?}");
    // What bears everything is told as such, and what holds nowhere as well.
    let bears = |promise: &str| {
        let text = format!(
            "for: 5s\nservices: {{ db: {{ work: 1ms }} }}\n{STEADY}\npromises: [ {promise} ]"
        );
        limit(&trial(ONCE, &text), Scaled::Load)
    };
    assert!(bears("goodput >= 99%").breaks.is_none());
    let never = bears("p50 < 1us");
    assert!(
        never.holds < 1e-9 && never.breaks.unwrap() < 0.05,
        "{never:?}"
    );
}

#[test]
fn what_is_promised_after_a_trigger_moves_behind_it() {
    let patient = "upstreams: { db: { endpoints: http://db:1, timeout: 2s } }";
    let text = "for: 60s\nservices: { db: { work: 1ms } }\n\
                clients: { shop: { upstream: db, every: 50ms } }\n\
                timeline: [ { service: db, from: 10s, to: 11s, fault: hangs } ]\n\
                promises: [ goodput >= 100% from 31s to 50s ]";
    let head = limit(&trial(patient, text), Scaled::Trigger);
    assert_eq!(head.breaks, None, "{head:?}");
}

#[test]
fn what_begins_as_another_ends_begins_whatever_the_order_of_the_file() {
    let check = |first: &str, second: &str| {
        let text = format!(
            "for: 30s\nservices: {{ db: {{ work: 5ms }} }}\n{STEADY}\ntimeline:\n\
             - {{ service: db, {first}, fault: away }}\n- {{ service: db, {second}, fault: away }}\n\
             promises: [ goodput <= 1% from 10s to 20s ]"
        );
        let (trial, run) = one(ONCE, &text);
        assert!(run.keeps(0, &trial.scenario().promises[0]), "{run:?}");
    };
    let (one, other) = ("from: 10s, to: 15s", "from: 15s, to: 20s");
    check(one, other);
    check(other, one);
}

#[test]
fn what_is_slow_and_warms_up_is_both() {
    let text = |slow: &str| {
        format!(
            "for: 60s\nservices: {{ db: {{ work: 10ms }} }}\n{STEADY}\ntimeline:\n\
             - {{ service: db, from: 20s, to: 30s, fault: away, warms: {{ from: 20%, over: 20s }} }}\n\
             - {{ service: db, from: 25s, {slow}, speed: 50% }}\n\
             promises: [ p50 <= 1s from 30s to 31s, p50 <= 1s from 52s to 54s ]"
        )
    };
    let check = |slow: &str, expected: [u64; 2]| {
        let (_, run) = one(ONCE, &text(slow));
        for (found, millis) in run.measured.iter().zip(expected) {
            let most = millis as f64 / 1e3;
            let found = found.unwrap();
            assert!(
                0.85 * most < found && found < 1.15 * most,
                "{slow}: {run:?}"
            );
        }
    };
    // Both end at once, and the caches are cold all the same.
    check("to: 30s", [48, 10]);
    // It is slow until later, and stays so when the caches are warm.
    check("to: 55s", [96, 20]);
}

#[test]
fn a_run_beyond_its_bounds_says_which_and_what_to_change() {
    let check = |bound: &str, parts: &[&str]| {
        let text = format!(
            "for: 60s\n{bound}\nservices: {{ db: {{ work: 50ms }} }}\n{STEADY}\n\
             timeline: [ {{ service: db, from: 5s, fault: hangs }} ]"
        );
        let trial = trial(ONCE, &text);
        let failure = trial.run(7).unwrap_err();
        assert!(
            matches!(failure, Failure::Bound { seed: 7, .. }),
            "{failure:?}"
        );
        let told = failure.to_string();
        for part in parts {
            assert!(told.contains(part), "{told}");
        }
        let result = batch(&trial, 7, 4, THREADS, &|_| {});
        assert_eq!(
            result.unwrap_err(),
            failure,
            "the lowest seed that fails is told"
        );
    };
    check(
        "most_events: 700",
        &["seed 7", "more than 700 events", "`most_events`"],
    );
    check(
        "most_present: 50",
        &["more than 50 calls at once", "`most_present`", "deadline"],
    );
}

#[test]
fn calls_at_once_take_as_long_as_the_longest() {
    let policy = "upstreams: { shop: { endpoints: http://shop:1 }, a: { endpoints: http://a:1 }, \
                  b: { endpoints: http://b:1 }, c: { endpoints: http://c:1 } }";
    let text = "for: 10s\nservices:\n  shop: { work: 1ms, calls: [[a, b], c] }\n  a: { work: 10ms }\n  \
                b: { work: 30ms }\n  c: { work: 5ms }\nclients: { one: { upstream: shop, every: 1s } }";
    let (_, run) = one(policy, text);
    let [half, ..] = run.quantiles;
    assert!((half - 0.036).abs() < 1e-3, "{half}");
}

const SHOP: &str = "upstreams:\n  buy: { endpoints: { shop: http://shop:1 } }\n  \
                    track: { endpoints: { shop: http://shop:1 } }\n  \
                    help: { endpoints: { shop: http://shop:1 } }\n  \
                    payment: { endpoints: http://payment:1 }\n  shipping: { endpoints: http://shipping:1 }";

#[test]
fn what_a_service_calls_depends_on_what_it_is_asked() {
    let text = "for: 20s\nservices:\n  shop: { work: 1ms, workers: 2, calls: { track: [shipping], \
                buy: [payment] } }\n  payment: { work: 20ms }\n  shipping: { work: 300ms }\nclients:\n  \
                buyers: { upstream: buy, every: 1s }\n  trackers: { upstream: track, every: 1s }\n  \
                others: { upstream: help, every: 1s }\n\
                promises: [ p50 of buyers < 1s, p50 of trackers < 1s, p50 of others < 1s ]";
    let (_, run) = one(SHOP, text);
    let found: Vec<_> = run
        .measured
        .iter()
        .map(|value| round(value.unwrap()))
        .collect();
    assert_eq!(
        found,
        [0.021, 0.301, 0.022],
        "all three come at once; the third one waits"
    );
}

#[test]
fn clients_of_one_process_share_its_policies() {
    let policy = "upstreams: { db: { endpoints: http://db:1, bulkhead: 2 } }";
    let peak = |processes: [&str; 2]| {
        let [one_of, other_of] = processes;
        let text = format!(
            "for: 5s\nservices: {{ db: {{ work: 1s }} }}\nclients:\n  \
             one: {{ upstream: db, every: 50ms{one_of} }}\n  other: {{ upstream: db, every: 70ms{other_of} }}"
        );
        one(policy, &text).1.peaks[0]
    };
    assert_eq!(peak([", process: gateway", ", process: gateway"]), 2);
    assert_eq!(peak([", process: gateway", ", process: other"]), 4);
    assert_eq!(peak(["", ""]), 4);
    assert_eq!(
        peak([
            ", copies: 3, process: gateway",
            ", copies: 3, process: gateway"
        ]),
        6
    );
}

#[test]
fn a_service_passes_on_how_critical_its_caller_is() {
    let policy = "upstreams:\n  edge: { endpoints: http://edge:1 }\n  db: { endpoints: http://db:1, \
                  shed: { limit: 4, queue: 20 } }";
    let text = "for: 20s\nservices:\n  edge: { work: 1ms, calls: [db] }\n  db: { work: 40ms }\nclients:\n  \
                vital: { upstream: edge, rate: 50/s, tier: critical, deadline: 2s }\n  \
                extra: { upstream: edge, rate: 150/s, tier: optional, deadline: 2s }\n\
                promises: [ goodput of vital >= 99%, goodput of extra <= 50% ]";
    let (trial, run) = one(policy, text);
    for (number, promise) in trial.scenario().promises.iter().enumerate() {
        assert!(
            run.keeps(number, promise),
            "{} {:?}",
            promise.text,
            run.measured
        );
    }
}

#[test]
fn work_is_as_it_was_measured() {
    let folder = folder("measured");
    std::fs::write(
        folder.join("work.csv"),
        "# upper bound, count\n10ms,90\n\n100ms,9\n1s,1\n",
    )
    .unwrap();
    let text = "for: 60s\nservices: { db: { work: { measured: work.csv } } }\n\
                clients: { shop: { upstream: db, rate: 200/s } }";
    let trial = load(&folder, text);
    let (run, _) = trial.run(1).unwrap();
    let [half, most, nearly_all] = run.quantiles;
    assert!((0.003..=0.01).contains(&half), "{half}");
    assert!((0.05..=0.35).contains(&most), "{most}");
    assert!((0.1..=1.0).contains(&nearly_all), "{nearly_all}");
}

#[test]
fn load_is_as_a_file_says() {
    let folder = folder("load");
    std::fs::write(
        folder.join("load.csv"),
        "0s,10/s\n10s,10/s\n10s,100/s\n20s,100/s\n30s,0/s\n",
    )
    .unwrap();
    let text = "for: 40s\nservices: { db: { work: 1ms } }\n\
                clients: { shop: { upstream: db, rate: { file: load.csv } } }";
    let (_, course) = load(&folder, text).run(1).unwrap();
    let calls = |from: usize, to: usize| -> u64 {
        course.seconds[from..to]
            .iter()
            .map(|second| second.calls)
            .sum()
    };
    let found = [calls(0, 10), calls(10, 20), calls(20, 30), calls(30, 40)];
    for (found, expected) in found.into_iter().zip([100.0, 1000.0, 500.0, 0.0_f64]) {
        // Four standard deviations.
        assert!(
            (found as f64 - expected).abs() <= 4.0 * expected.sqrt(),
            "{found} of {expected}"
        );
    }
}

#[test]
fn users_wait_think_and_call_again() {
    let text = "for: 20s\nservices: { db: { work: 1s } }\n\
                clients: { people: { upstream: db, users: 10, thinks: 1s } }";
    let (_, run) = one(ONCE, text);
    assert_eq!(
        run.calls, 100,
        "a call of each every two seconds, after a second"
    );
    assert_eq!(run.peaks, [10]);
}

#[test]
fn zones_are_as_far_from_each_other_as_they_say() {
    let check = |zone: &str, took: f64| {
        let text = format!(
            "for: 10s\nnetwork: 5ms\nzones: {{ eu: {{ eu: 1ms, us: 40ms }} }}\n\
             services: {{ db: {{ work: 10ms, zones: [us] }} }}\n\
             clients: {{ shop: {{ upstream: db, every: 100ms{zone} }} }}"
        );
        let [half, ..] = one(ONCE, &text).1.quantiles;
        assert!((half - took).abs() < 1e-3, "{zone}: {half}");
    };
    check(", zone: eu", 0.090);
    // Nothing is said of how far it is to itself, or from nowhere.
    check(", zone: us", 0.020);
    check("", 0.020);
}

#[test]
fn endpoints_say_where_services_are() {
    let policy = "upstreams: { db: { endpoints: { near: { url: http://a:1, zone: eu }, \
                  far: { url: http://b:1, zone: us } }, balance: round_robin } }";
    let check = |services: &str| {
        let text = format!(
            "for: 10s\nzones: {{ eu: {{ eu: 1ms, us: 40ms }} }}\nservices: {{ {services} }}\n\
             clients: {{ shop: {{ upstream: db, every: 100ms, zone: eu }} }}\n\
             timeline: [ {{ zone: us, from: 5s, fault: away }} ]\npromises: [ goodput >= 1% from 5s to 10s ]"
        );
        let (_, run) = one(policy, &text);
        let [_, most, _] = run.quantiles;
        assert!((most - 0.09).abs() < 1e-3, "{services}: {most}");
        assert_eq!(run.measured[0].map(round), Some(0.5), "{services}");
    };
    check("db: { work: 10ms }");
    check("near: { work: 10ms }, far: { work: 10ms }");
}

fn trial(policy: &str, scenario: &str) -> Trial {
    let plan = outlast_config::parse("policy.yaml", policy);
    let plan = plan
        .unwrap_or_else(|problems| panic!("{problems}"))
        .into_plan();
    let draft = outlast_config::scenario::parse("scenario.yaml", scenario);
    let scenario = draft.and_then(|draft| draft.bind(&plan));
    Trial::new(
        scenario.unwrap_or_else(|problems| panic!("{problems}")),
        &plan,
    )
}

fn one(policy: &str, scenario: &str) -> (Trial, Run) {
    let trial = trial(policy, scenario);
    let (run, _) = trial.run(1).unwrap();
    (trial, run)
}

fn batch_of(trial: &Trial, runs: u32) -> Batch {
    batch(trial, 1, runs, THREADS, &|_| {}).unwrap()
}

fn limit(trial: &Trial, scaled: Scaled) -> Head {
    head_room(trial, scaled, 1, 3, THREADS, &mut |_, _| {}).unwrap()
}

/// A scenario in a folder, as files beside it are found.
fn load(folder: &Path, text: &str) -> Trial {
    let file = folder.join("scenario.yaml");
    std::fs::write(&file, text).unwrap();
    let plan = outlast_config::parse("policy.yaml", ONCE)
        .unwrap()
        .into_plan();
    let draft = outlast_config::scenario::load(&file).unwrap();
    let scenario = draft.bind(&plan);
    Trial::new(
        scenario.unwrap_or_else(|problems| panic!("{problems}")),
        &plan,
    )
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// To a thousandth.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

const THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

#[test]
fn a_world_in_which_nobody_calls_any_more_has_not_recovered() {
    // Everybody waits for an hour for answers that do not come.
    let policy = "upstreams: { db: { endpoints: http://db:1, timeout: 1h } }";
    let text = "for: 60s\nservices: { db: { work: 20ms } }\n\
                clients: { shop: { upstream: db, users: 9, thinks: 200ms, deadline: 1h } }\n\
                timeline:\n  - { service: db, from: 10s, to: 12s, failures: 50% }\n  \
                - { service: db, from: 20s, fault: hangs }";
    let (_, run) = one(policy, text);
    assert!(!run.recovery.unwrap().recovered, "{run:?}");
    let (_, run) = one(
        policy,
        &text.replace("from: 20s, fault", "from: 20s, to: 21s, fault"),
    );
    assert!(run.recovery.unwrap().recovered, "{run:?}");
}
