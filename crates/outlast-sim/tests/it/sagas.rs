//! Sagas through the policies of upstreams, over services that fail, are slow and lose answers, with a
//! runner that crashes at any transition.

mod together;

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use outlast_core::backoff::Backoff;
use outlast_core::ratio::Ratio;
use outlast_core::rng::Rng;
use outlast_core::upstream::Config;
use outlast_core::{breaker, budget, bulkhead, deadline, retry};
use outlast_saga::{Definition, OnUnknown, Query, Step, Tries, Undo};
use outlast_sim::{
    Change, Curve, Gone, Law, Model, Refusal, Report, Runner, SagaReport, Sagas, SagasId, Service,
    ServiceId, UpstreamId,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Five services with an upstream each, and what is said of every step by default.
struct Shop {
    model: Model,
    services: Vec<ServiceId>,
    upstreams: Vec<UpstreamId>,
}

const STEPS: [&str; 5] = ["create", "reserve", "charge", "ship", "notify"];

impl Shop {
    fn new(seed: u64) -> Shop {
        Shop::of(seed, |_, service| service)
    }

    /// With services that are changed by the name of their step.
    fn of(seed: u64, change: impl Fn(&str, Service) -> Service) -> Shop {
        let mut model = Model::new(seed);
        let mut services = Vec::new();
        let mut upstreams = Vec::new();
        for name in STEPS {
            let service = Service::new(Law::lognormal(20 * MS, 0.5).unwrap()).workers(20);
            let service = model.service(change(name, service));
            upstreams.push(model.upstream(Config::new(name), &[service]).unwrap());
            services.push(service);
        }
        Shop {
            model,
            services,
            upstreams,
        }
    }

    fn order() -> Definition {
        Shop::order_with(|step| step)
    }

    /// With steps that are changed.
    fn order_with(change: impl Fn(Step) -> Step) -> Definition {
        let step = |name: &str| {
            let undo = Undo::new().tries(Tries::new(20).backoff(Backoff::exponential(SECOND)));
            change(Step::new(name).timeout(2 * SECOND).undo(undo))
        };
        let notify = Step::new("notify").timeout(2 * SECOND).best_effort();
        STEPS[..4]
            .iter()
            .fold(Definition::new("order", 1), |order, name| {
                order.step(step(name))
            })
            .step(notify)
    }

    fn away(&mut self, step: &str, from: Duration, to: Duration) {
        let number = STEPS.iter().position(|name| *name == step).unwrap();
        let service = self.services[number];
        self.model.change(from, service, Change::Refuses(true));
        self.model.change(to, service, Change::Refuses(false));
    }

    /// Twenty orders a second for a minute, and then until nothing is under way.
    fn run(mut self, definition: Definition) -> (Report, SagasId) {
        let orders = Sagas::open(definition, &self.upstreams, Curve::level(20.0));
        let orders = self.model.sagas(orders);
        let report = self.model.run(60 * SECOND).unwrap();
        assert_eq!(report.sagas().broken, Vec::<String>::new());
        assert_all_rest(report.saga(orders));
        (report, orders)
    }
}

fn assert_all_rest(report: &SagaReport) {
    let rest = report.completed + report.compensated + report.waiting;
    assert_eq!(report.started, rest, "{report:?}");
    assert_eq!(report.asked, report.started + report.refused, "{report:?}");
}

#[test]
fn on_a_good_day_all_is_done_with_one_request_a_step() {
    let (report, orders) = Shop::new(1).run(Shop::order());
    let orders = report.saga(orders);
    assert!((1000..1400).contains(&orders.started), "{orders:?}");
    assert_eq!(orders.completed, orders.started);
    for step in &orders.steps {
        assert_eq!(
            (step.attempts, step.requests),
            (orders.started, orders.started),
            "{step:?}"
        );
        assert_eq!((step.lost, step.undo_attempts), (0, 0), "{step:?}");
    }
    // Five steps of 23 ms in the mean.
    let mean = orders.times.mean();
    assert!((100 * MS..140 * MS).contains(&mean), "{mean:?}");
}

#[test]
fn while_shipping_is_down_orders_are_undone_in_reverse() {
    let mut shop = Shop::new(2);
    shop.away("ship", 10 * SECOND, 30 * SECOND);
    // Nobody waits for the turn of a retry.
    let counted = budget::Config::new(Ratio::ZERO).enforce(false);
    let (report, orders) = shop.run(Shop::order_with(|step| step.budget(counted)));
    let orders = report.saga(orders);
    let [create, reserve, charge, ship, notify] = &orders.steps[..] else {
        panic!("five steps");
    };
    assert!(
        orders.compensated > 300 && orders.completed > 700,
        "{orders:?}"
    );
    assert_eq!((orders.waiting, orders.half_done, orders.twice), (0, 0, 0));
    for step in [create, reserve, charge] {
        assert_eq!(step.undone, orders.compensated, "{step:?}");
    }
    assert!(
        ship.undone < 20,
        "only what was cut off may have been done: {ship:?}"
    );
    assert_eq!(notify.attempts, orders.completed);
    // Nobody begins in these seconds and is done.
    let seconds = &orders.seconds[12..27];
    assert!(
        seconds
            .iter()
            .all(|second| second.completed == 0 && second.compensated > 0)
    );
}

#[test]
fn a_failed_notification_never_fails_an_order() {
    let mut shop = Shop::new(3);
    shop.away("notify", Duration::ZERO, 1000 * SECOND);
    let (report, orders) = shop.run(Shop::order());
    let orders = report.saga(orders);
    assert_eq!(orders.completed, orders.started);
    assert!(orders.steps[4].attempts > orders.started);
}

#[test]
fn refunds_wait_for_their_service_and_somebody_for_those_that_were_given_up() {
    let down = |hands: bool| {
        let mut shop = Shop::of(4, |name, service| match name {
            "ship" => service.declines(0.3),
            _ => service,
        });
        let refunds = shop.model.service(Service::new(Law::fixed(20 * MS)));
        let refund = shop
            .model
            .upstream(Config::new("refund"), &[refunds])
            .unwrap();
        shop.model
            .change(Duration::ZERO, refunds, Change::Refuses(true));
        shop.model
            .change(600 * SECOND, refunds, Change::Refuses(false));
        if hands {
            shop.model.runner(Runner::new().hands(900 * SECOND));
        }
        let short = Undo::new().tries(Tries::new(3).backoff(Backoff::constant(SECOND)));
        let long = Undo::new().tries(Tries::new(1000).backoff(Backoff::constant(SECOND)));
        let charge = Step::new("charge").undo(if hands { short } else { long });
        let ship = Step::new("ship");
        let definition = Definition::new("order", 1).step(charge).step(ship);
        let upstreams = [shop.upstreams[2], shop.upstreams[3]];
        let orders = Sagas::open(definition, &upstreams, Curve::level(5.0));
        let orders = shop.model.sagas(orders.undone_through("charge", refund));
        let report = shop.model.run(60 * SECOND).unwrap();
        assert_eq!(report.sagas().broken, Vec::<String>::new());
        assert_all_rest(report.saga(orders));
        report.saga(orders).clone()
    };
    let patient = down(false);
    assert!(
        patient.compensated > 50 && patient.dead_letters == 0,
        "{patient:?}"
    );
    assert!(patient.longest > 500 * SECOND);
    let helped = down(true);
    assert_eq!(helped.compensated, patient.compensated);
    assert_eq!(
        helped.dead_letters, helped.compensated,
        "each was given up, and tried again"
    );
    assert_eq!((helped.waiting, helped.half_done), (0, 0));
}

/// Whoever helps may find that the runner crashes just then: before it is on the log that somebody
/// did, and after.
#[test]
fn a_runner_may_crash_while_somebody_helps() {
    for every in 1..=12 {
        let mut shop = Shop::of(4, |name, service| match name {
            "ship" => service.declines(1.0),
            _ => service,
        });
        let refunds = shop.model.service(Service::new(Law::fixed(20 * MS)));
        let refund = shop
            .model
            .upstream(Config::new("refund"), &[refunds])
            .unwrap();
        shop.model
            .change(Duration::ZERO, refunds, Change::Refuses(true));
        shop.model
            .change(100 * SECOND, refunds, Change::Refuses(false));
        let runner = Runner::new().hands(60 * SECOND).crashes_every(11 + every);
        shop.model.runner(runner);
        let undo = Undo::new().tries(Tries::new(2).backoff(Backoff::constant(SECOND)));
        let definition = Definition::new("order", 1)
            .step(Step::new("charge").undo(undo))
            .step(Step::new("ship"));
        let upstreams = [shop.upstreams[2], shop.upstreams[3]];
        let orders = Sagas::open(definition, &upstreams, Curve::level(2.0));
        let orders = shop.model.sagas(orders.undone_through("charge", refund));
        let report = shop.model.run(20 * SECOND).unwrap();
        assert_eq!(report.sagas().broken, Vec::<String>::new(), "{every}");
        let orders = report.saga(orders);
        assert_all_rest(orders);
        assert_eq!((orders.waiting, orders.half_done), (0, 0), "{every}");
    }
}

#[test]
fn a_slow_inventory_times_out_and_nothing_is_charged() {
    let mut shop = Shop::new(5);
    let slow = shop.services[1];
    shop.model
        .change(Duration::ZERO, slow, Change::Speed(0.002));
    let reserve = Step::new("reserve").timeout(5 * SECOND).undo(Undo::new());
    let reserve = reserve.tries(Tries::new(1));
    let definition = Definition::new("sale", 1)
        .step(reserve)
        .step(Step::new("charge"));
    let upstreams = [shop.upstreams[1], shop.upstreams[2]];
    // Ten seconds each, and nobody waits for a worker.
    let sales = Sagas::steady(definition, &upstreams, SECOND);
    let sales = shop.model.sagas(sales);
    let report = shop.model.run(20 * SECOND).unwrap();
    assert_eq!(report.sagas().broken, Vec::<String>::new());
    let sales = report.saga(sales);
    assert!(sales.compensated > 15, "{sales:?}");
    assert_eq!(
        sales.compensated, sales.steps[0].lost,
        "nobody knows whether it was reserved"
    );
    assert_eq!(sales.steps[1].attempts, sales.completed);
    assert_eq!(sales.half_done, 0, "what was done late is not done");
}

#[test]
fn who_knows_no_keys_charges_twice() {
    let charge = |keeps: bool| {
        let shop = Shop::of(6, |name, service| match (name, keeps) {
            ("charge", false) => service.lost(0.05).forgets_keys(),
            ("charge", true) => service.lost(0.05),
            _ => service,
        });
        let (report, orders) = shop.run(Shop::order());
        report.saga(orders).clone()
    };
    let keeps = charge(true);
    assert!(keeps.twice == 0 && keeps.steps[2].lost > 20, "{keeps:?}");
    assert_eq!(keeps.completed, keeps.started);
    assert!(charge(false).twice > 20);
}

#[test]
fn a_runner_that_crashes_goes_on_at_its_pace() {
    let mut shop = Shop::new(7);
    let pace = NonZeroUsize::new(1000).unwrap();
    shop.model.runner(Runner::new().resumed_a_second(pace));
    // Everything that begins is stuck at shipping when the runner goes.
    let hangs = shop.services[3];
    shop.model.change(10 * SECOND, hangs, Change::Holds(true));
    shop.model.crash(20 * SECOND, 5 * SECOND);
    shop.model.change(24 * SECOND, hangs, Change::Holds(false));
    let definition = Shop::order();
    let (report, orders) = shop.run(definition);
    assert_eq!(report.sagas().crashes, 1);
    let orders = report.saga(orders);
    assert!(report.sagas().resumed > 100, "{}", report.sagas().resumed);
    assert!(
        (70..130).contains(&orders.refused),
        "five seconds of nobody there: {orders:?}"
    );
    assert_eq!((orders.waiting, orders.twice, orders.half_done), (0, 0, 0));
}

#[test]
fn who_crashes_at_every_third_instant_gets_to_the_end() {
    let crash = |every: u64| {
        let mut shop = Shop::new(8);
        shop.model
            .runner(Runner::new().crashes_every(every).restart(MS));
        let orders = Sagas::steady(Shop::order(), &shop.upstreams, SECOND);
        let orders = shop.model.sagas(orders);
        let report = shop.model.run(60 * SECOND).unwrap();
        assert_eq!(report.sagas().broken, Vec::<String>::new());
        assert_all_rest(report.saga(orders));
        (report.sagas().crashes, report.saga(orders).clone())
    };
    // Each instant in turn: two for each record of an order.
    for every in 3..40 {
        let (crashes, orders) = crash(every);
        assert!(crashes > 10, "every {every}: {crashes}");
        assert_eq!((orders.twice, orders.half_done), (0, 0), "every {every}");
    }
}

#[test]
fn cancelled_orders_are_undone() {
    let mut shop = Shop::new(9);
    let orders = Sagas::open(Shop::order(), &shop.upstreams, Curve::level(20.0));
    let orders = orders.cancels(0.5, Law::uniform(Duration::ZERO, 60 * MS));
    let orders = shop.model.sagas(orders);
    let report = shop.model.run(60 * SECOND).unwrap();
    assert_eq!(report.sagas().broken, Vec::<String>::new());
    let orders = report.saga(orders);
    let share = orders.compensated as f64 / orders.started as f64;
    assert!((0.4..0.5).contains(&share), "{share}");
    assert_eq!((orders.waiting, orders.half_done), (0, 0));
}

#[test]
fn equal_seeds_give_equal_traces_on_any_thread() {
    let run = |seed: u64| {
        let (report, orders) = any_world(seed);
        (report.hash, report.events, report.saga(orders).completed)
    };
    let first = run(11);
    let threads: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(move || run(11)))
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), first);
    }
    assert_ne!(run(12).0, first.0);
}

/// Any definition, any policies, any luck, any crash: every saga ends done or undone or waits for
/// somebody, and no law is broken.
#[test]
fn whatever_happens_no_law_is_broken() {
    let (mut completed, mut compensated, mut waiting, mut crashes) = (0, 0, 0, 0);
    let (mut queries, mut held) = (0, 0);
    for seed in 0..crate::rows::sized(4e3, 1e5) as u64 {
        let (report, sagas) = any_world(seed);
        let broken = &report.sagas().broken;
        assert!(broken.is_empty(), "seed {seed}: {broken:?}");
        let one = report.saga(sagas);
        assert_all_rest(one);
        assert_eq!(one.twice, 0, "seed {seed}");
        completed += one.completed;
        compensated += one.compensated;
        waiting += one.waiting;
        crashes += report.sagas().crashes;
        queries += one.steps.iter().map(|step| step.queries).sum::<u64>();
        held += one.steps.iter().map(|step| step.held).sum::<u64>();
    }
    let all = [completed, compensated, waiting, crashes, queries, held];
    assert!(all.iter().all(|count| *count > 2000), "{all:?}");
}

fn below(rng: &mut Rng, most: u32) -> u32 {
    (rng.unit() * f64::from(most)) as u32
}

fn chance(rng: &mut Rng, share: f64) -> bool {
    rng.unit() < share
}

/// Twenty seconds of a world in which anything may be so.
fn any_world(seed: u64) -> (Report, SagasId) {
    let mut rng = Rng::new(seed);
    let rng = &mut rng;
    let mut model = Model::new(seed);
    let services: Vec<_> = (0..3)
        .map(|_| {
            let service = any_service(rng);
            model.service(service)
        })
        .collect();
    let upstreams: Vec<_> = (0..4)
        .map(|number| {
            let config = any_policies(rng, number);
            let service = services[below(rng, 3) as usize];
            model.upstream(config, &[service]).unwrap()
        })
        .collect();
    for _ in 0..below(rng, 4) {
        any_trouble(rng, &mut model, &services);
    }
    let definition = any_definition(rng);
    definition.check().unwrap();
    let names: Vec<_> = definition
        .steps()
        .map(|step| step.name().to_owned())
        .collect();
    let mut any_upstream = || upstreams[below(rng, 4) as usize];
    let through: Vec<_> = names.iter().map(|_| any_upstream()).collect();
    let mut sagas = Sagas::open(definition, &through, Curve::level(1.0));
    for name in &names {
        sagas = sagas
            .undone_through(name, any_upstream())
            .asked_through(name, any_upstream());
    }
    if chance(rng, 0.3) {
        sagas = sagas.cancels(0.3, Law::exponential(SECOND));
    }
    let sagas = model.sagas(sagas);
    let mut runner = Runner::new().restart(100 * MS * below(rng, 20));
    match below(rng, 4) {
        0 => runner = runner.crashes(0.02 + 0.3 * rng.unit()),
        1 => runner = runner.crashes_every(3 + u64::from(below(rng, 30))),
        2 => model.crash(SECOND * below(rng, 20), SECOND * below(rng, 5)),
        _ => {}
    }
    if chance(rng, 0.2) {
        runner = runner.resumed_a_second(NonZeroUsize::new(2).unwrap());
    }
    if chance(rng, 0.2) {
        runner = runner.running(NonZeroUsize::new(5).unwrap());
    }
    if chance(rng, 0.4) {
        let records = NonZeroU64::new(2 + u64::from(below(rng, 20)));
        runner = runner.records(records.unwrap());
        if chance(rng, 0.5) {
            // Whoever is declined for good is tried again until its log is full.
            runner = runner.hands(SECOND * (1 + below(rng, 60)));
        }
    }
    model.runner(runner);
    for _ in 0..below(rng, 6).saturating_sub(3) {
        let (from, lasts) = (below(rng, 20_000), below(rng, 20_000));
        model.pause(sagas, MS * from, MS * lasts);
    }
    (model.run(20 * SECOND).unwrap(), sagas)
}

fn any_service(rng: &mut Rng) -> Service {
    let work = Law::exponential(MS * (1 + below(rng, 500)));
    let mut service = Service::new(work).failures(0.3 * rng.unit() * rng.unit());
    if chance(rng, 0.5) {
        service = service.workers(1 + below(rng, 5)).queue(below(rng, 10));
    }
    if chance(rng, 0.3) {
        service = service.refusal(Refusal::ComeBack {
            after: SECOND,
            spread: SECOND,
        });
    }
    if chance(rng, 0.4) {
        service = service.declines(0.2 * rng.unit());
    }
    if chance(rng, 0.4) {
        service = service.lost(0.2 * rng.unit());
    }
    let gone = [Gone::WorksOn, Gone::WorksOn, Gone::Skips, Gone::Stops];
    service.gone(gone[below(rng, 4) as usize])
}

fn any_policies(rng: &mut Rng, number: u32) -> Config {
    let mut config = Config::new(number.to_string());
    if chance(rng, 0.5) {
        config = config.deadline(deadline::Config::default().attempt(MS * (50 + below(rng, 950))));
    }
    if chance(rng, 0.5) {
        config = config.retry(retry::Config::attempts(2 + below(rng, 2)));
    }
    if chance(rng, 0.2) {
        config = config.budget(budget::Config::new(Ratio::ONE));
    }
    if chance(rng, 0.5) {
        config = config.breaker(breaker::Config::consecutive(2 + below(rng, 5)));
    }
    if chance(rng, 0.3) {
        config = config.bulkhead(bulkhead::Config::new(1 + below(rng, 5)));
    }
    config
}

/// A service is away, slow or cut off, for some time.
fn any_trouble(rng: &mut Rng, model: &mut Model, services: &[ServiceId]) {
    let service = services[below(rng, 3) as usize];
    let from = SECOND * below(rng, 20);
    let to = from + SECOND * (1 + below(rng, 60));
    let (begins, ends) = match below(rng, 4) {
        0 => (Change::Refuses(true), Change::Refuses(false)),
        1 => (Change::Holds(true), Change::Holds(false)),
        2 => (Change::Lost(0.5), Change::Lost(0.0)),
        _ => (Change::Speed(0.02), Change::Speed(1.0)),
    };
    model.change(from, service, begins);
    model.change(to, service, ends);
}

/// One to six steps, some at once, with whatever may be said of them.
fn any_definition(rng: &mut Rng) -> Definition {
    let mut definition = Definition::new("any", 1);
    let count = 1 + below(rng, 6);
    let pivot = if chance(rng, 0.3) {
        below(rng, count)
    } else {
        count
    };
    let mut stage: Vec<Step> = Vec::new();
    for number in 0..count {
        let tries =
            |rng: &mut Rng| Tries::new(1 + below(rng, 6)).backoff(MS * (1 + below(rng, 5000)));
        let mut step = Step::new(format!("s{number}"))
            .timeout(MS * (100 + below(rng, 5000)))
            .tries(tries(rng));
        if chance(rng, 0.7) {
            let undo = Undo::new().timeout(SECOND).tries(tries(rng));
            let pace = NonZeroU32::new(1 + below(rng, 50)).unwrap();
            step = step.undo(undo.retries_a_second(pace));
        }
        if chance(rng, 0.5) {
            let ratio = Ratio::percent(below(rng, 50));
            let budget = budget::Config::new(ratio).reserve(1 + below(rng, 10));
            step = step.budget(budget.window(SECOND * (1 + below(rng, 30))));
        }
        if number == pivot {
            if !stage.is_empty() {
                definition = definition.at_once(std::mem::take(&mut stage));
            }
            step = step.pivot();
        } else if chance(rng, 0.2) {
            step = step.best_effort();
        }
        step = match below(rng, 3) {
            0 => step,
            1 => step.on_unknown(OnUnknown::Compensate),
            _ => {
                let query = Query::new().timeout(MS * (100 + below(rng, 2000)));
                step.on_unknown(OnUnknown::Query(query.tries(tries(rng))))
            }
        };
        stage.push(step);
        if number == pivot || chance(rng, 0.7) {
            definition = definition.at_once(std::mem::take(&mut stage));
        }
    }
    if !stage.is_empty() {
        definition = definition.at_once(stage);
    }
    if chance(rng, 0.3) {
        definition = definition.deadline(SECOND * (1 + below(rng, 30)));
    }
    definition
}
