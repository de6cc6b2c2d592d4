//! What all sagas of a definition do together, and what is said of them from outside: bounds of retries,
//! pauses, questions whether steps were done, and the length of logs.

use super::*;

/// Sagas of one step, which calls a service that is away from 10 to 40 s: what it refused, and they.
fn through_an_outage(step: Step) -> (u64, SagaReport) {
    let mut shop = Shop::new(21);
    shop.away("charge", 10 * SECOND, 40 * SECOND);
    let charge = shop.services[2];
    let upstreams = [shop.upstreams[2]];
    let sagas = Sagas::open(
        Definition::new("refill", 1).step(step),
        &upstreams,
        Curve::level(20.0),
    );
    let sagas = shop.model.sagas(sagas);
    let report = shop.model.run(60 * SECOND).unwrap();
    assert_eq!(report.sagas().broken, Vec::<String>::new());
    assert_all_rest(report.saga(sagas));
    (report.service(charge).refused, report.saga(sagas).clone())
}

#[test]
fn retries_of_all_sagas_together_have_a_bound() {
    let (window, reserve) = (10 * SECOND, 10);
    let with = |is_enforced: bool| {
        let budget = budget::Config::new(Ratio::percent(20))
            .window(window)
            .reserve(reserve)
            .enforce(is_enforced);
        let tries = Tries::new(1000).backoff(Backoff::constant(SECOND));
        through_an_outage(Step::new("charge").tries(tries).budget(budget))
    };
    let (unbounded, all) = with(false);
    assert_eq!(all.completed, all.started);
    // Each of six hundred asks every second.
    assert!(unbounded > 5000, "{unbounded}");
    let (bounded, all) = with(true);
    assert_eq!(all.completed, all.started, "nothing fails for that");
    assert!(all.steps[0].held > 500, "{all:?}");
    // First attempts, a fifth of what succeeded in ten seconds, and four reserves.
    let first = 600 + 60;
    assert!(bounded <= first + 45 + 4 * u64::from(reserve), "{bounded}");
}

#[test]
fn by_default_orders_wait_for_a_service_that_is_away_rather_than_fail() {
    let mut shop = Shop::new(2);
    shop.away("ship", 10 * SECOND, 30 * SECOND);
    let (report, orders) = shop.run(Shop::order());
    let orders = report.saga(orders);
    let ship = &orders.steps[3];
    assert!(ship.held > 1000, "{ship:?}");
    // A hundred retries in ten seconds, and a fifth of what succeeded before.
    let retries = ship.attempts - orders.started;
    assert!((300..700).contains(&retries), "{retries}");
    assert!(orders.compensated < 150, "{}", orders.compensated);
}

#[test]
fn who_is_best_effort_does_not_wait_for_its_turn() {
    let budget = budget::Config::new(Ratio::ZERO).window(SECOND).reserve(1);
    let tries = Tries::new(1000).backoff(Backoff::constant(SECOND));
    let step = Step::new("charge").tries(tries).budget(budget);
    let (refused, all) = through_an_outage(step.best_effort());
    assert_eq!(all.completed, all.started);
    assert!(all.longest < 40 * SECOND && refused < 750, "{all:?}");
}

#[test]
fn retries_that_undo_take_turns() {
    let undone = |a_second: u32| {
        let mut shop = Shop::of(22, |name, service| match name {
            "ship" => service.declines(1.0),
            _ => service,
        });
        let refunds = shop.model.service(Service::new(Law::fixed(MS)));
        let refund = shop.model.upstream(Config::new("refund"), &[refunds]);
        shop.model
            .change(Duration::ZERO, refunds, Change::Refuses(true));
        shop.model
            .change(60 * SECOND, refunds, Change::Refuses(false));
        let undo = Undo::new()
            .tries(Tries::new(1000).backoff(Backoff::constant(SECOND)))
            .retries_a_second(NonZeroU32::new(a_second).unwrap());
        let definition = Definition::new("order", 1)
            .step(Step::new("charge").undo(undo))
            .step(Step::new("ship"));
        let upstreams = [shop.upstreams[2], shop.upstreams[3]];
        let orders = Sagas::open(definition, &upstreams, Curve::level(5.0));
        let orders = orders.undone_through("charge", refund.unwrap());
        let orders = shop.model.sagas(orders);
        let report = shop.model.run(60 * SECOND).unwrap();
        assert_eq!(report.sagas().broken, Vec::<String>::new());
        let all = report.saga(orders).clone();
        assert_eq!((all.compensated, all.half_done), (all.started, 0));
        (report.service(refunds).refused - all.started, all)
    };
    let (fast, _) = undone(10_000);
    assert!(fast > 5000, "three hundred ask every second: {fast}");
    let (slow, all) = undone(4);
    assert!((200..=240).contains(&slow), "{slow}");
    // What could not be undone in the meantime is undone at this pace.
    assert!(all.longest > 60 * SECOND, "{:?}", all.longest);
}

#[test]
fn a_runner_that_has_crashed_counts_from_the_start() {
    let mut shop = Shop::new(23);
    shop.away("charge", 10 * SECOND, 40 * SECOND);
    shop.model.runner(Runner::new().restart(MS));
    for second in 12..38 {
        shop.model.crash(second * SECOND, MS);
    }
    let budget = budget::Config::new(Ratio::ZERO).window(60 * SECOND);
    let tries = Tries::new(1000).backoff(Backoff::constant(100 * MS));
    let step = Step::new("charge").tries(tries).budget(budget.reserve(1));
    let definition = Definition::new("refill", 1).step(step);
    let sagas = Sagas::open(definition, &[shop.upstreams[2]], Curve::level(1.0));
    let sagas = shop.model.sagas(sagas);
    let report = shop.model.run(60 * SECOND).unwrap();
    let all = report.saga(sagas);
    assert_all_rest(all);
    let retries = all.steps[0].attempts - all.started;
    assert!(retries > 26, "one more in each life: {retries}");
}

/// A step that asks, and is made so often.
fn asks(attempts: u32) -> Step {
    let query = Query::new().tries(Tries::new(5));
    let tries = Tries::new(attempts).backoff(100 * MS);
    let step = Step::new("charge").tries(tries);
    step.on_unknown(OnUnknown::Query(query))
}

#[test]
fn who_asks_charges_once_even_where_keys_are_not_kept() {
    let charge = |step: Step| {
        let shop = Shop::of(24, |name, service| match name {
            "charge" => service.lost(0.2).forgets_keys(),
            _ => service,
        });
        let definition = Definition::new("order", 1)
            .step(step)
            .step(Step::new("ship"));
        let mut model = shop.model;
        let upstreams = [shop.upstreams[2], shop.upstreams[3]];
        let orders = model.sagas(Sagas::open(definition, &upstreams, Curve::level(20.0)));
        let report = model.run(60 * SECOND).unwrap();
        assert_eq!(report.sagas().broken, Vec::<String>::new());
        assert_all_rest(report.saga(orders));
        report.saga(orders).clone()
    };
    let tries = Tries::new(10).backoff(100 * MS);
    let again = charge(Step::new("charge").tries(tries));
    assert!(again.twice > 100, "{again:?}");
    let asked = charge(asks(10));
    let step = &asked.steps[0];
    assert_eq!((asked.twice, asked.completed), (0, asked.started));
    assert_eq!(step.attempts, asked.started, "all were done");
    // An answer to a question is lost as any other is.
    assert!(step.lost > 100 && step.queries > step.lost, "{step:?}");
}

#[test]
fn what_was_not_done_is_not_done_later_unless_keys_are_not_kept() {
    let late = |keeps: bool| {
        let mut model = Model::new(25);
        let slow = Service::new(Law::fixed(SECOND));
        let slow = model.service(if keeps { slow } else { slow.forgets_keys() });
        let ledger = model.service(Service::new(Law::fixed(MS)).replicas(2));
        let [slow, ledger] =
            [slow, ledger].map(|one| model.upstream(Config::new("one"), &[one]).unwrap());
        let step = asks(2).timeout(500 * MS).undo(Undo::new());
        let ends = Step::new("ends");
        let definition = Definition::new("order", 1).step(step).step(ends);
        let orders = Sagas::steady(definition, &[slow, ledger], SECOND);
        let orders = model.sagas(orders.asked_through("charge", ledger));
        let report = model.run(20 * SECOND).unwrap();
        assert_eq!(report.sagas().broken, Vec::<String>::new());
        report.saga(orders).clone()
    };
    let kept = late(true);
    let step = &kept.steps[0];
    assert_eq!((kept.compensated, kept.half_done), (kept.started, 0));
    assert_eq!(step.undo_attempts, 0, "nothing has to be undone");
    assert_eq!(step.queries, 2 * kept.started);
    // The ledger that is asked keeps keys, and the service does what comes late all the same.
    let forgot = late(false);
    assert!(forgot.half_done + forgot.completed > 0, "{forgot:?}");
}

#[test]
fn who_gets_no_answer_takes_it_for_done_and_undoes_it() {
    let mut shop = Shop::of(26, |name, service| match name {
        "charge" => service.lost(1.0),
        _ => service,
    });
    shop.away("create", Duration::ZERO, 1000 * SECOND);
    let step = asks(3).undo(Undo::new());
    let definition = Definition::new("order", 1).step(step);
    let upstreams = [shop.upstreams[2]];
    let orders = Sagas::steady(definition, &upstreams, SECOND);
    let orders = orders
        .asked_through("charge", shop.upstreams[0])
        .undone_through("charge", shop.upstreams[1]);
    let orders = shop.model.sagas(orders);
    let report = shop.model.run(20 * SECOND).unwrap();
    assert_eq!(report.sagas().broken, Vec::<String>::new());
    let all = report.saga(orders);
    let step = &all.steps[0];
    assert_eq!((all.compensated, all.half_done), (all.started, 0));
    assert_eq!(
        (step.attempts, step.queries),
        (all.started, 5 * all.started)
    );
    assert_eq!(step.undone, all.started);
}

#[test]
fn nothing_begins_while_sagas_are_paused() {
    let paused = |pace: usize| {
        let mut shop = Shop::new(27);
        let pace = NonZeroUsize::new(pace).unwrap();
        shop.model.runner(Runner::new().resumed_a_second(pace));
        shop.model.sample(SECOND);
        // Nobody notices that all of it is away.
        for step in STEPS {
            shop.away(step, 13 * SECOND, 28 * SECOND);
        }
        let orders = Sagas::open(Shop::order(), &shop.upstreams, Curve::level(20.0));
        let orders = shop.model.sagas(orders);
        shop.model.pause(orders, 10 * SECOND, 20 * SECOND);
        let create = shop.services[0];
        let report = shop.model.run(60 * SECOND).unwrap();
        assert_eq!(report.sagas().broken, Vec::<String>::new());
        let all = report.saga(orders);
        assert_eq!((all.completed, all.refused), (all.started, 0));
        for step in &all.steps {
            assert_eq!(step.attempts, all.started, "{step:?}");
        }
        assert!((19 * SECOND..30 * SECOND).contains(&all.longest));
        let present = report.samples.iter().map(|sample| sample.present(create));
        let waited = report.samples[28].sagas;
        assert!((300..500).contains(&waited), "{waited}");
        present.max().unwrap()
    };
    assert!(paused(20_000) > 200, "all of them at once");
    assert!(paused(50) < 30, "one after the other");
}

#[test]
fn a_pause_holds_over_crashes_and_lets_what_has_to_be_undone_be_undone() {
    let mut shop = Shop::new(28);
    shop.model.runner(Runner::new().crashes(0.001).restart(MS));
    // Whoever wants to pause it finds it away, and so does who wants it to go on.
    shop.model.crash(9900 * MS, SECOND);
    shop.model.crash(29_900 * MS, SECOND);
    let definition = Shop::order().deadline(8 * SECOND);
    let orders = Sagas::open(definition, &shop.upstreams, Curve::level(20.0));
    let orders = shop.model.sagas(orders);
    shop.model.pause(orders, 10 * SECOND, 20 * SECOND);
    let report = shop.model.run(60 * SECOND).unwrap();
    assert_eq!(report.sagas().broken, Vec::<String>::new());
    let all = report.saga(orders);
    assert_all_rest(all);
    assert_eq!((all.waiting, all.half_done, all.twice), (0, 0, 0));
    // A deadline goes on, and turns those back that wait for longer.
    let early = &all.seconds[12..21];
    assert!(early.iter().all(|second| second.completed == 0));
    assert!(early.iter().all(|second| second.compensated > 0));
    let late: u32 = all.seconds[26..30]
        .iter()
        .map(|second| second.completed)
        .sum();
    assert!(late > 20, "{:?}", &all.seconds[20..32]);
}

#[test]
fn who_is_paused_again_does_not_go_on_in_between() {
    let mut shop = Shop::new(29);
    let pace = NonZeroUsize::new(10).unwrap();
    shop.model.runner(Runner::new().resumed_a_second(pace));
    let orders = Sagas::open(Shop::order(), &shop.upstreams, Curve::level(20.0));
    let orders = shop.model.sagas(orders);
    // Two hundred wait, and ten go on each second.
    shop.model.pause(orders, SECOND, 10 * SECOND);
    shop.model.pause(orders, 12 * SECOND, 20 * SECOND);
    shop.away("create", 13 * SECOND, 31 * SECOND);
    let report = shop.model.run(20 * SECOND).unwrap();
    assert_eq!(report.sagas().broken, Vec::<String>::new());
    let all = report.saga(orders);
    assert_eq!(all.completed + all.compensated, all.started, "{all:?}");
    // Ten a second from 32 s on, and a few that met the end of the outage before.
    assert_eq!(all.steps[0].attempts, all.started);
}

#[test]
fn a_log_has_a_bound_and_hands_cannot_go_beyond_it() {
    let with = |hands: bool| {
        let mut shop = Shop::new(30);
        shop.away("charge", Duration::ZERO, 100_000 * SECOND);
        let runner = Runner::new().records(NonZeroU64::new(20).unwrap());
        shop.model.runner(match hands {
            true => runner.hands(SECOND),
            false => runner,
        });
        let tries = Tries::new(1000).backoff(100 * MS);
        let step = Step::new("charge").tries(tries);
        let definition = Definition::new("refill", 1).step(step);
        let sagas = Sagas::steady(definition, &[shop.upstreams[2]], 10 * SECOND);
        let sagas = shop.model.sagas(sagas);
        let report = shop.model.run(60 * SECOND).unwrap();
        assert_eq!(report.sagas().broken, Vec::<String>::new());
        let all = report.saga(sagas);
        assert_all_rest(all);
        assert_eq!(all.waiting, all.started);
        (all.dead_letters, all.steps[0].attempts / all.started)
    };
    // An attempt that fails is two records; the last one says that it waits.
    let (waited, attempts) = with(false);
    assert_eq!(waited, 6);
    assert!((8..=10).contains(&attempts), "{attempts}");
    let (waited, attempts) = with(true);
    assert!(waited > 6 && (12..=20).contains(&attempts), "{attempts}");
}
