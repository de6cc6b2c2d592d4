//! The laws of the whole, whatever the settings: bounded extra load, nothing leaked by a
//! cancellation, nothing after the deadline, equal seeds give equal traces, and no setting that
//! overflows, spins or panics.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outlast_core::backoff::Backoff;
use outlast_core::breaker::{self, State};
use outlast_core::call::{Call, Kind, Request, Step};
use outlast_core::outcome::Outcome;
use outlast_core::reject::{Reason, Rejection};
use outlast_core::rng::Rng;
use outlast_core::time::Time;
use outlast_core::upstream::{Config, Upstream};
use outlast_core::window::Window;
use outlast_core::{
    budget, bulkhead, deadline, failover, fault, hedge, rate, ratio::Ratio, retry, shed,
};
use proptest::prelude::*;

use crate::world::{Ended, Reply, Seen, World, at_once};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn upstream(config: Config) -> Upstream {
    Upstream::new(config, 1).unwrap()
}

/// Retries, hedges and failovers, as many as there can be, with the default budget.
fn eager() -> Config {
    Config::new("eager")
        .endpoint("a")
        .endpoint("b")
        .endpoint("c")
        .failover(failover::Config::ordered())
        .retry(retry::Config::attempts(10).backoff(5 * MS))
        .hedge(hedge::Config::after(10 * MS).hedges(3))
        .deadline(deadline::Config::attempt_only(200 * MS))
}

/// How a dependency is when it is dead.
#[derive(Clone, Copy, Debug)]
enum Death {
    Refuses,
    FailsSlowly,
    Hangs,
    Overloaded,
}

const DEATHS: [Death; 4] = [
    Death::Refuses,
    Death::FailsSlowly,
    Death::Hangs,
    Death::Overloaded,
];

impl Death {
    fn reply(self) -> Reply {
        match self {
            Death::Refuses => at_once(Outcome::Transient),
            Death::FailsSlowly => Reply::After(150 * MS, Outcome::Transient),
            Death::Hangs => Reply::Hangs,
            Death::Overloaded => {
                let retry_after = Some(100 * MS);
                Reply::After(15 * MS, Outcome::Overload { retry_after })
            }
        }
    }
}

/// A steady load on a dependency that dies after `life`, and every window of 30 s of it.
fn check_outage(config: Config, callers: u64, every: u64, life: Duration, death: Death) {
    let upstream = upstream(config);
    let dies = Time::ZERO + life;
    let mut rng = Rng::new(callers);
    let mut world = World::new(&upstream, move |seen| {
        if seen.at >= dies {
            death.reply()
        } else {
            // One in ten is slow enough for a hedge, and one in ten fails.
            match rng.next_u64() % 10 {
                0 => Reply::After(40 * MS, Outcome::Success),
                1 => Reply::After(5 * MS, Outcome::Transient),
                _ => Reply::After(5 * MS, Outcome::Success),
            }
        }
    });
    let mut calls = Vec::new();
    for round in 0..120_000 / every {
        world.run_until(Time::from_millis(round * every));
        for caller in 0..callers {
            calls.push(world.now);
            world.call(Request::new(round * callers + caller));
        }
    }
    world.run();
    let mut starts: Vec<_> = world.seen.iter().map(|seen| seen.at).collect();
    starts.sort_unstable();
    let succeeded = world.ended.iter().flatten();
    let mut successes: Vec<_> = succeeded
        .filter(|ended| ended.outcome == Some(Outcome::Success))
        .map(|ended| ended.at)
        .collect();
    successes.sort_unstable();
    for &from in &starts {
        let (attempts, calls) = (within(&starts, from), within(&calls, from));
        let bound = calls * 11 / 10;
        assert!(
            attempts <= bound + 3,
            "{death:?}, {callers} callers: {attempts} attempts of {calls} calls from {from:?}"
        );
        // What the reserve adds is less than what the calls without success leave unused.
        if calls >= 60 && within(&successes, from) + 60 <= calls {
            assert!(
                attempts <= bound,
                "{death:?}, {callers} callers: {attempts} attempts of {calls} calls from {from:?}"
            );
        }
    }
    assert!(
        starts.len() > calls.len(),
        "there are extra attempts at all"
    );
}

/// How many of the sorted `times` lie in the 30 s from `from`.
fn within(times: &[Time], from: Time) -> usize {
    let before = |end: Time| times.partition_point(|&time| time < end);
    before(from + 30 * SECOND) - before(from)
}

#[test]
fn one_caller_of_a_dead_dependency_makes_a_tenth_more_attempts_at_most() {
    for death in DEATHS {
        check_outage(eager(), 1, 250, Duration::ZERO, death);
        check_outage(eager(), 1, 250, 45 * SECOND, death);
    }
}

#[test]
fn many_callers_of_a_dead_dependency_make_a_tenth_more_attempts_at_most() {
    for death in DEATHS {
        check_outage(eager(), 64, 1000, Duration::ZERO, death);
        check_outage(eager(), 64, 1000, 45 * SECOND, death);
    }
}

#[test]
fn a_live_quantile_for_hedges_keeps_the_bound() {
    let hedge = hedge::Config::after_quantile(Ratio::percent(90)).hedges(3);
    for death in DEATHS {
        check_outage(eager().hedge(hedge), 64, 1000, 45 * SECOND, death);
    }
}

/// Sixty-four threads against a dead dependency: together they make the reserve's extra attempts
/// and not one more.
#[test]
fn threads_share_one_budget() {
    let upstream = upstream(eager());
    let (clock, attempts) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..64 {
            let (upstream, clock, attempts) = (&upstream, &clock, &attempts);
            scope.spawn(move || {
                for number in 0..100 {
                    let mut now = Time::from_nanos(clock.fetch_add(1_000_000, Ordering::SeqCst));
                    let request = Request::new(thread * 100 + number);
                    let mut call = Call::new(upstream, request, now);
                    loop {
                        match call.step(now) {
                            Step::Attempt(attempt) => {
                                attempts.fetch_add(1, Ordering::SeqCst);
                                call.outcome(attempt.id, Outcome::Transient, now);
                            }
                            Step::Wait { until } => now = until,
                            Step::Cancel { .. } => {}
                            Step::Done { .. } | Step::Reject(_) => break,
                        }
                    }
                }
            });
        }
    });
    assert_eq!(attempts.into_inner(), 64 * 100 + 3);
}

/// Everything about one random run.
#[derive(Clone, Debug)]
struct Scenario {
    config: Config,
    call_limit: Option<Duration>,
    trials: u32,
    calls: Vec<Planned>,
    seed: u64,
}

/// One call of a scenario; times in steps of 5 ms, so that many things happen at once.
#[derive(Clone, Copy, Debug)]
struct Planned {
    after: u64,
    deadline: Option<u64>,
    cancelled: Option<u64>,
    repeatable: bool,
}

const STEP: Duration = Duration::from_millis(5);

fn steps(most: u32) -> impl Strategy<Value = Duration> {
    (0..=most).prop_map(|steps| steps * STEP)
}

fn any_call() -> impl Strategy<Value = Planned> {
    let often = |weight, most: u64| proptest::option::weighted(weight, 0..most);
    let repeatable = proptest::bool::weighted(0.9);
    (0u64..6, often(0.4, 40), often(0.5, 40), repeatable).prop_map(
        |(after, deadline, cancelled, repeatable)| Planned {
            after,
            deadline,
            cancelled,
            repeatable,
        },
    )
}

fn any_config() -> impl Strategy<Value = (Config, Option<Duration>, u32)> {
    let some = |weight| proptest::bool::weighted(weight);
    let bulkhead = (1u32..4, 0u32..4, steps(20));
    let rate = (1u32..4, 1u32..4, steps(20));
    let retry = (1u32..6, steps(4));
    let hedge = (steps(4), 1u32..4);
    let breaker = (1u32..4, 1u32..20, 1u32..4, 1u32..4, 2u32..20);
    let budget = (0u32..=100, 0u32..8);
    let limits = (proptest::option::of(1u32..40), 1u32..20);
    let fault = (0u32..30, any::<bool>());
    let on = (
        some(0.7),
        some(0.4),
        some(0.7),
        some(0.5),
        some(0.7),
        some(0.8),
    );
    let more = (1usize..4, some(0.5), some(0.3));
    (
        (bulkhead, rate, retry, hedge, breaker, budget),
        (limits, fault, on, more),
    )
        .prop_map(|(policies, (limits, fault, on, more))| {
            let (bulkhead, rate, retry, hedge, breaker, budget) = policies;
            let (with_bulkhead, with_rate, with_retry, with_hedge, with_breaker, with_budget) = on;
            let (endpoints, with_failover, with_fault) = more;
            let mut config = Config::new("any");
            for endpoint in 0..endpoints {
                config = config.endpoint(endpoint.to_string());
            }
            if with_bulkhead {
                let (concurrency, queue, timeout) = bulkhead;
                let bulkhead = bulkhead::Config::new(concurrency);
                config = config.bulkhead(bulkhead.queue(queue).queue_timeout(timeout));
            }
            if with_rate {
                let (calls, burst, wait) = rate;
                let rate = rate::Config::new(calls, 20 * MS);
                config = config.rate(rate.burst(burst).wait(wait));
            }
            if with_retry {
                config = config.retry(retry::Config::attempts(retry.0).backoff(retry.1));
            }
            if with_hedge {
                config = config.hedge(hedge::Config::after(hedge.0).hedges(hedge.1));
            }
            if with_breaker {
                let (failures, cooldown, trials, successes, lease) = breaker;
                let breaker = breaker::Config::consecutive(failures)
                    .cooldown(cooldown * STEP)
                    .trials(trials)
                    .successes(successes)
                    .lease(lease * STEP);
                config = config.breaker(breaker);
            }
            let (percent, reserve) = budget;
            let budget = budget::Config::new(Ratio::percent(percent)).reserve(reserve);
            config = config.budget(with_budget.then_some(budget.window(DAY)));
            if with_failover && endpoints > 1 {
                config = config.failover(failover::Config::ordered());
            }
            if with_fault {
                let harm = if fault.1 {
                    fault::Fault::Error
                } else {
                    fault::Fault::Hang
                };
                config = config.fault(fault::Config::new(harm, Ratio::percent(fault.0)));
            }
            let call_limit = limits.0.map(|steps| steps * STEP);
            let limit = match call_limit {
                Some(limit) => deadline::Config::call(limit),
                None => deadline::Config::default(),
            };
            let config = config.deadline(limit.attempt(limits.1 * STEP));
            (config, call_limit, breaker.2)
        })
}

fn any_scenario() -> impl Strategy<Value = Scenario> {
    let calls = proptest::collection::vec(any_call(), 1..30);
    (any_config(), calls, any::<u64>()).prop_map(|((config, call_limit, trials), calls, seed)| {
        Scenario {
            config,
            call_limit,
            trials,
            calls,
            seed,
        }
    })
}

/// What a random dependency does.
fn any_reply(rng: &mut Rng) -> Reply {
    let outcome = match rng.next_u64() % 10 {
        0..4 => Outcome::Success,
        4..7 => Outcome::Transient,
        7 => Outcome::Permanent,
        8 => Outcome::Overload {
            retry_after: rng.next_u64().is_multiple_of(2).then_some(10 * MS),
        },
        _ => Outcome::Ignored,
    };
    match rng.next_u64() % 8 {
        0 => Reply::Hangs,
        steps => Reply::After((steps as u32 - 1) * STEP, outcome),
    }
}

/// What there is to see of a run.
#[derive(Debug, PartialEq)]
struct Trace {
    seen: Vec<Seen>,
    ended: Vec<Option<Ended>>,
    end: Time,
}

/// Plays a scenario to its end. The trace, and when each call had to be over.
fn play(scenario: &Scenario, upstream: &Upstream) -> (Trace, Vec<Time>) {
    let mut rng = Rng::new(scenario.seed);
    let mut world = World::new(upstream, move |_| any_reply(&mut rng));
    let mut deadlines = Vec::new();
    for (number, planned) in scenario.calls.iter().enumerate() {
        world.run_until(world.now + planned.after as u32 * STEP);
        let mut request =
            Request::new(scenario.seed ^ number as u64).repeatable(planned.repeatable);
        let mut deadline = scenario
            .call_limit
            .map_or(Time::MAX, |limit| world.now + limit);
        if let Some(steps) = planned.deadline {
            let own = world.now + steps as u32 * STEP;
            request = request.deadline(own);
            deadline = deadline.min(own);
        }
        deadlines.push(deadline);
        let arrived = world.now;
        let call = world.call(request);
        if let Some(steps) = planned.cancelled {
            world.cancel_at(call, arrived + steps as u32 * STEP);
        }
    }
    world.run();
    let trace = Trace {
        seen: world.seen.clone(),
        ended: world.ended.clone(),
        end: world.now,
    };
    (trace, deadlines)
}

proptest! {
    #[test]
    fn nothing_is_leaked_and_nothing_is_late(scenario in any_scenario()) {
        let upstream = Upstream::new(scenario.config.clone(), scenario.seed).unwrap();
        let (trace, deadlines) = play(&scenario, &upstream);
        for (number, planned) in scenario.calls.iter().enumerate() {
            let ended = trace.ended[number];
            prop_assert!(ended.is_some() || planned.cancelled.is_some(), "call {} hangs", number);
            if let Some(ended) = ended {
                prop_assert!(ended.at <= deadlines[number], "call {} ends late", number);
            }
        }
        for seen in &trace.seen {
            prop_assert!(seen.at < deadlines[seen.call], "{:?} starts late", seen);
        }
        let stats = upstream.stats(trace.end);
        if let Some(bulkhead) = stats.bulkhead {
            prop_assert_eq!((bulkhead.active, bulkhead.queued), (0, 0));
        }
        for balance in stats.endpoints.iter().filter_map(|one| one.balance.as_ref()) {
            prop_assert_eq!(balance.in_flight, 0);
        }
        if let Some(budget) = stats.budget {
            let extra = stats.retries + stats.hedges + stats.failovers;
            prop_assert_eq!(budget.withdrawn, extra);
        }
        for endpoint in 0..upstream.endpoints().get() {
            let Some(breaker) = upstream.breaker(endpoint) else {
                continue;
            };
            let now = breaker.stats(trace.end).retry_at.unwrap_or(trace.end).max(trace.end);
            if breaker.state(now) == State::Closed {
                continue;
            }
            let places = (0..10).map_while(|_| breaker.admit(now).ok());
            let places: Vec<_> = places.collect();
            prop_assert_eq!(places.len(), scenario.trials as usize, "a place is lost");
            for permit in places {
                breaker.record(permit, Outcome::Ignored, MS, now);
            }
            while breaker.state(now) != State::Closed {
                let permit = breaker.admit(now).expect("a place is free");
                breaker.record(permit, Outcome::Success, MS, now);
            }
        }
    }

    #[test]
    fn equal_seeds_give_equal_traces(scenario in any_scenario()) {
        let once = || {
            let upstream = Upstream::new(scenario.config.clone(), scenario.seed).unwrap();
            let (trace, _) = play(&scenario, &upstream);
            (format!("{:?}", upstream.stats(trace.end)), trace)
        };
        prop_assert_eq!(once(), once());
    }
}

/// A call that stands at some point of its walk, and how it is dropped there.
struct Walk<'u> {
    call: Call<&'u Upstream>,
    now: Time,
}

impl<'u> Walk<'u> {
    fn new(upstream: &'u Upstream) -> Walk<'u> {
        let now = Time::from_millis(1000);
        Walk {
            call: Call::new(upstream, Request::new(3), now),
            now,
        }
    }

    fn step(&mut self) -> Step {
        self.call.step(self.now)
    }

    /// Starts an attempt and leaves it running.
    fn start(&mut self) -> outlast_core::call::AttemptId {
        match self.step() {
            Step::Attempt(attempt) => attempt.id,
            other => panic!("no attempt but {other:?}"),
        }
    }

    /// Lets the wait end that the call asks for.
    fn sleep(&mut self) {
        match self.step() {
            Step::Wait { until } => self.now = until,
            other => panic!("no wait but {other:?}"),
        }
    }
}

/// Everything that a call can hold.
fn holding() -> Config {
    Config::new("holding")
        .throttle(shed::throttle::Config::default())
        .shed(shed::Config::new(shed::Limit::fixed(6)).queue(2))
        .bulkhead(bulkhead::Config::new(2).queue(2))
        .rate(rate::Config::new(1, SECOND).burst(3).wait(10 * SECOND))
        .retry(retry::Config::attempts(3).backoff(50 * MS))
        .hedge(hedge::Config::after(10 * MS))
        .breaker(breaker::Config::consecutive(100))
        .budget(budget::Config::default().window(DAY))
}

fn assert_nothing_is_held(upstream: &Upstream, now: Time, point: &str) {
    let stats = upstream.stats(now);
    let bulkhead = stats.bulkhead.unwrap();
    assert_eq!((bulkhead.active, bulkhead.queued), (0, 0), "{point}");
    let shed = stats.shed.unwrap();
    assert_eq!((shed.in_flight, shed.queued), (0, 0), "{point}");
    let extra = stats.retries + stats.hedges + stats.failovers;
    assert_eq!(stats.budget.unwrap().withdrawn, extra, "{point}");
}

#[test]
fn a_call_can_be_dropped_at_every_point_of_its_walk() {
    type Point = fn(&mut Walk<'_>);
    let points: [(&str, Point); 7] = [
        ("arrived", |_| {}),
        ("running", |walk| _ = walk.start()),
        ("hedged", |walk| {
            walk.start();
            walk.sleep();
            walk.start();
        }),
        ("failed, not stepped", |walk| {
            let id = walk.start();
            walk.call.outcome(id, Outcome::Transient, walk.now);
        }),
        ("in backoff", |walk| {
            let id = walk.start();
            walk.call.outcome(id, Outcome::Transient, walk.now);
            assert!(matches!(walk.step(), Step::Wait { .. }));
        }),
        ("retrying", |walk| {
            let id = walk.start();
            walk.call.lost(id, Reason::Fault, walk.now);
            walk.sleep();
            walk.start();
        }),
        ("done", |walk| {
            let id = walk.start();
            walk.call.outcome(id, Outcome::Success, walk.now);
            walk.step();
        }),
    ];
    for (name, point) in points {
        for cancels in [false, true] {
            let upstream = upstream(holding());
            let mut walk = Walk::new(&upstream);
            point(&mut walk);
            let now = walk.now;
            if cancels {
                walk.call.cancel(now);
            }
            drop(walk);
            assert_nothing_is_held(&upstream, now, name);
        }
    }
}

#[test]
fn a_queued_call_that_goes_away_leaves_its_place_or_its_seat() {
    for granted in [false, true] {
        let upstream = upstream(holding().rate(rate::Config::new(1000, SECOND)));
        let mut seated = [Walk::new(&upstream), Walk::new(&upstream)];
        let ids = [seated[0].start(), seated[1].start()];
        let mut waits = [Walk::new(&upstream), Walk::new(&upstream)];
        for walk in &mut waits {
            assert!(matches!(walk.step(), Step::Wait { .. }));
            assert!(walk.call.ticket().is_some());
        }
        let [gone, mut next] = waits;
        if granted {
            seated[0].call.outcome(ids[0], Outcome::Success, gone.now);
            assert!(gone.call.ticket().unwrap().is_granted());
        }
        drop(gone);
        assert_eq!(next.call.ticket().unwrap().is_granted(), granted);
        if granted {
            next.start();
        }
        drop((seated, next));
        assert_nothing_is_held(&upstream, Time::from_millis(1000), "queued");
    }
}

#[test]
fn a_trial_that_is_cancelled_or_queued_gives_its_place_back() {
    let breaker = breaker::Config::consecutive(1).trials(1).successes(1);
    let config = Config::new("db")
        .endpoint("a")
        .breaker(breaker.cooldown(500 * MS))
        .bulkhead(bulkhead::Config::new(1).queue(1));
    let upstream = upstream(config);
    let breaker = upstream.breaker(0).unwrap();
    let permit = breaker.admit(Time::ZERO).unwrap();
    breaker.record(permit, Outcome::Transient, MS, Time::ZERO);
    let mut trial = Walk::new(&upstream);
    trial.start();
    assert_eq!(breaker.admit(trial.now).unwrap_err().reason, Reason::Open);
    drop(trial);
    let seat = upstream.bulkhead().unwrap().try_admit().unwrap();
    let mut queued = Walk::new(&upstream);
    assert!(matches!(queued.step(), Step::Wait { .. }));
    let permit = breaker.admit(queued.now).unwrap();
    assert!(permit.is_trial());
    breaker.record(permit, Outcome::Success, MS, queued.now);
    upstream.bulkhead().unwrap().release(seat);
    queued.start();
}

#[test]
fn the_last_of_the_paced_calls_gives_its_turn_back_when_it_goes_away() {
    let config = Config::new("db").rate(rate::Config::new(1, SECOND).burst(1).wait(3 * SECOND));
    for keyed in [false, true] {
        let rate = rate::Config::new(1, SECOND).burst(1).wait(3 * SECOND);
        let config = if keyed {
            config.clone().rate(rate.per_key(8))
        } else {
            config.clone()
        };
        let upstream = upstream(config);
        Walk::new(&upstream).start();
        for _ in 0..100 {
            let mut paced: VecDeque<_> = (0..4).map(|_| Walk::new(&upstream)).collect();
            let waits: Vec<_> = paced.iter_mut().map(Walk::step).collect();
            let until = |millis| Step::Wait {
                until: Time::from_millis(millis),
            };
            let rejection = Rejection::after(Reason::Rate, SECOND);
            let expected = [
                until(2000),
                until(3000),
                until(4000),
                Step::Reject(rejection),
            ];
            assert_eq!(waits, expected);
            // An earlier one's turn is lost: moving the later ones would break their spacing.
            while let Some(last) = paced.pop_back() {
                drop(last);
            }
        }
    }
}

#[test]
fn a_turn_after_the_deadline_is_given_back() {
    let rate = rate::Config::new(1, SECOND).burst(1).wait(3 * SECOND);
    let upstream = upstream(Config::new("db").rate(rate));
    Walk::new(&upstream).start();
    let now = Time::from_millis(1000);
    for _ in 0..100 {
        let hasty = Request::new(1).deadline(Time::from_millis(1500));
        let end = Call::new(&upstream, hasty, now).step(now);
        let rejection = Rejection::after(Reason::Deadline, SECOND);
        assert_eq!(end, Step::Reject(rejection));
    }
    let until = Time::from_millis(2000);
    assert_eq!(Walk::new(&upstream).step(), Step::Wait { until });
}

#[test]
fn policies_in_shadow_mode_neither_delay_nor_reject() {
    let rate = rate::Config::new(1, SECOND).burst(1).wait(3 * SECOND);
    let config = Config::new("shadow")
        .rate(rate.enforce(false))
        .bulkhead(bulkhead::Config::new(1).queue(1).enforce(false))
        .breaker(breaker::Config::consecutive(1).enforce(false))
        .retry(retry::Config::attempts(3).enforce(false))
        .hedge(hedge::Config::after(MS).enforce(false))
        .budget(budget::Config::default().enforce(false))
        .deadline(deadline::Config::call(MS).enforce(false));
    let upstream = upstream(config);
    let mut world = World::new(&upstream, |_| Reply::After(5 * MS, Outcome::Transient));
    for _ in 0..10 {
        world.call(Request::new(1));
    }
    world.run();
    assert_eq!(world.now, Time::from_millis(5));
    assert_eq!(world.seen.len(), 10);
    assert!(
        world
            .ended
            .iter()
            .flatten()
            .all(|ended| ended.outcome.is_some())
    );
    assert!(upstream.stats(world.now).would_reject(Reason::Full) > 0);
}

#[test]
fn settings_out_of_all_bounds_are_refused() {
    let config = || Config::new("extreme");
    let refused = [
        config().retry(retry::Config::attempts(u32::MAX)),
        config().retry(retry::Config::attempts(0)),
        config().hedge(hedge::Config::after(Duration::MAX)),
        config().hedge(hedge::Config::after(MS).hedges(u32::MAX)),
        config().hedge(hedge::Config::after(MS).hedges(0)),
        config().bulkhead(bulkhead::Config::new(u32::MAX)),
        config().bulkhead(bulkhead::Config::new(0)),
        config().bulkhead(bulkhead::Config::new(1).queue_timeout(Duration::MAX)),
        config().deadline(deadline::Config::call(Duration::ZERO)),
        config().deadline(deadline::Config::attempt_only(Duration::ZERO)),
        config().rate(rate::Config::new(u32::MAX, Duration::from_nanos(1))),
        config().rate(rate::Config::new(1, Duration::ZERO)),
        config().rate(rate::Config::new(1, Duration::MAX)),
        config().budget(budget::Config::default().window(Duration::ZERO)),
        config().budget(budget::Config::default().reserve(u32::MAX)),
        config().breaker(breaker::Config::default().cooldown(Duration::MAX)),
        config().breaker(breaker::Config::failures(1, Window::Time(Duration::ZERO))),
        config().failover(failover::Config::ordered()),
        Config::new(""),
        config().endpoint("a").endpoint("a"),
    ];
    for config in refused {
        assert!(Upstream::new(config.clone(), 1).is_err(), "{config:?}");
    }
}

/// Runs calls with these settings at the ends of time; the number of attempts of each.
fn survive(config: Config, reply: Reply) -> Vec<u32> {
    let mut attempts = Vec::new();
    let times = [
        Time::ZERO,
        Time::from_millis(1),
        Time::from_nanos(u64::MAX - 1),
        Time::MAX,
    ];
    for start in times {
        let deadlines = [
            Time::ZERO,
            start,
            start + Duration::from_nanos(1),
            start + SECOND,
            Time::from_nanos(u64::MAX - 1),
            Time::MAX,
        ];
        for deadline in deadlines {
            let upstream = upstream(config.clone());
            let mut world = World::new(&upstream, |_| reply);
            world.run_until(start);
            for seed in 0..3 {
                world.call(Request::new(seed).deadline(deadline));
            }
            world.run();
            for (call, ended) in world.ended.iter().enumerate() {
                if let Some(ended) = ended {
                    assert!(ended.at <= deadline.max(start), "{config:?}");
                }
                let own = world.seen.iter().filter(|seen| seen.call == call);
                attempts.push(own.count() as u32);
            }
            upstream.stats(Time::MAX);
        }
    }
    attempts
}

#[test]
fn a_thousand_attempts_without_a_wait_or_a_budget_come_to_an_end() {
    let retry = retry::Config::attempts(1000).backoff(Duration::ZERO);
    let config = Config::new("all").retry(retry).budget(None);
    let attempts = survive(config.clone(), at_once(Outcome::Transient));
    assert_eq!(attempts.into_iter().max(), Some(1000));
    survive(config.clone(), Reply::Hangs);
    let hint = Outcome::Overload {
        retry_after: Some(Duration::MAX),
    };
    let attempts = survive(config.clone(), at_once(hint));
    assert_eq!(attempts.into_iter().max(), Some(1), "nobody waits for ever");
    let hint = Outcome::Overload {
        retry_after: Some(Duration::ZERO),
    };
    let attempts = survive(config, at_once(hint));
    assert_eq!(attempts.into_iter().max(), Some(1000));
}

#[test]
fn lengths_of_zero_and_of_a_nanosecond_work() {
    let nano = Duration::from_nanos(1);
    for length in [Duration::ZERO, nano] {
        let config = Config::new("short")
            .endpoint("a")
            .endpoint("b")
            .failover(failover::Config::ordered())
            .retry(retry::Config::attempts(5).backoff(length))
            .hedge(hedge::Config::after(length).hedges(3))
            .bulkhead(bulkhead::Config::new(1).queue(1).queue_timeout(length))
            .rate(rate::Config::new(1, nano).burst(1).wait(length))
            .breaker(breaker::Config::consecutive(3).patience(length))
            .deadline(deadline::Config::call(nano).attempt(nano))
            .budget(None);
        for reply in [
            Reply::Hangs,
            at_once(Outcome::Success),
            at_once(Outcome::Transient),
            Reply::After(nano, Outcome::Transient),
        ] {
            survive(config.clone(), reply);
            survive(config.clone().deadline(deadline::Config::default()), reply);
        }
    }
}

#[test]
fn lengths_of_a_day_and_of_for_ever_work() {
    let config = Config::new("long")
        .endpoint("a")
        .endpoint("b")
        .retry(retry::Config::attempts(3).backoff(Backoff::exponential(Duration::MAX)))
        .hedge(hedge::Config::after(DAY))
        .bulkhead(bulkhead::Config::new(1).queue(2).queue_timeout(DAY))
        .rate(rate::Config::new(1, DAY).wait(DAY))
        .breaker(breaker::Config::consecutive(1).cooldown(DAY).lease(DAY))
        .deadline(deadline::Config::call(Duration::MAX).attempt(Duration::MAX));
    for reply in [
        Reply::Hangs,
        Reply::After(Duration::MAX, Outcome::Success),
        at_once(Outcome::Success),
        at_once(Outcome::Transient),
    ] {
        survive(config.clone(), reply);
        survive(config.clone().rate(rate::Config::new(u32::MAX, DAY)), reply);
    }
}

#[test]
fn one_call_a_day_is_one_call_a_day() {
    let upstream = upstream(Config::new("rare").rate(rate::Config::new(1, DAY)));
    let mut world = World::new(&upstream, |_| at_once(Outcome::Success));
    for hour in 0..49 {
        world.run_until(Time::ZERO + hour * 3600 * SECOND);
        world.call(Request::new(1));
    }
    let hours = world
        .seen
        .iter()
        .map(|seen| seen.at.as_nanos() / 3_600_000_000_000);
    let hours: Vec<_> = hours.collect();
    assert_eq!(hours, [0, 24, 48]);
    assert!(world.seen.iter().all(|seen| seen.kind == Kind::First));
}
