//! Two hundred services before a database that fails over and comes back cold (rows F200).

use std::time::Duration;

use outlast_core::upstream::Config;
use outlast_core::{deadline, retry};
use outlast_sim::{Change, Client, ClientId, Curve, Law, Model, Report, Service, ServiceId};

use crate::rows::{Row, row};

const SECOND: Duration = Duration::from_secs(1);
const SERVICES: usize = 200;

struct Storm {
    report: Report,
    clients: Vec<ClientId>,
    database: ServiceId,
    back: u64,
}

/// Each service has policies of its own, and so a budget of its own.
fn storm(row: &Row, config: &Config, lasts: Duration, seed: u64) -> Storm {
    let [fails, back] = row.parameters("failover_s")[..] else {
        panic!("from when to when it is away");
    };
    let workers = row.parameter("workers") as u32;
    let warm = row.parameter("mu_warm");
    // As a share of the warm rate: a quarter at first, 0.42 writes a second more each second.
    let (cold, until) = (250.0 / warm, back + (warm - 250.0) / 0.42);
    let [fails, back, until] = [fails, back, until].map(Duration::from_secs_f64);
    let speed = Curve::level(1.0).jump(back, cold).line(until, 1.0);
    let mut model = Model::new(seed);
    let work = Law::exponential(Duration::from_secs_f64(f64::from(workers) / warm));
    let sessions = row.parameter("max_sessions") as u32;
    let database = Service::new(work)
        .workers(workers)
        .queue(sessions - workers);
    let database = model.service(database.speed(speed));
    model.change(fails, database, Change::Refuses(true));
    model.change(back, database, Change::Refuses(false));
    let clients = (0..SERVICES).map(|_| {
        let through = model.upstream(config.clone(), &[database]).unwrap();
        let rate = Curve::level(row.parameter("rate_per_service"));
        model.client(Client::open(through, rate))
    });
    let clients = clients.collect();
    Storm {
        report: model.run(lasts).unwrap(),
        clients,
        database,
        back: back.as_secs(),
    }
}

impl Storm {
    /// Seconds from the database's return to the end of the last one in which calls began of which
    /// more than one in a hundred failed.
    fn recovery(&self) -> u64 {
        let mut calls = vec![(0, 0); 2000];
        for client in &self.clients {
            for (second, count) in self.report.client(*client).seconds.iter().enumerate() {
                calls[second].0 += count.calls;
                calls[second].1 += count.good;
            }
        }
        let is_bad =
            |(_, (calls, good)): &(usize, &(u32, u32))| f64::from(*good) < 0.99 * f64::from(*calls);
        let last = calls
            .iter()
            .enumerate()
            .filter(is_bad)
            .map(|one| one.0)
            .max();
        (last.map_or(0, |last| last as u64 + 1)).saturating_sub(self.back)
    }
}

fn patient() -> deadline::Config {
    deadline::Config::default().attempt(SECOND)
}

/// What the rows ask to beat: within three seconds and without wasted work, with no change of the
/// server.
#[test]
fn with_the_default_retries_and_budget_the_storm_ends_with_the_outage() {
    let row = row("F200a");
    let config = Config::new("db")
        .retry(retry::Config::default())
        .deadline(patient());
    for seed in 0..20 {
        let storm = storm(&row, &config, 200 * SECOND, seed);
        let database = storm.report.service(storm.database);
        assert!(storm.recovery() <= 3, "{} s, seed {seed}", storm.recovery());
        assert_eq!(database.wasted, 0, "seed {seed}");
        assert!(database.peak < 80, "{}, seed {seed}", database.peak);
    }
}

/// A breaker wastes nothing either, and asks again when its cooldown is over: thirty seconds after it
/// tripped, by default.
#[test]
fn with_a_breaker_the_end_of_the_outage_is_seen_after_its_cooldown() {
    let row = row("F200a");
    let config = Config::standard("db").deadline(patient());
    for seed in 0..5 {
        let storm = storm(&row, &config, 200 * SECOND, seed);
        assert!(
            (10..=30).contains(&storm.recovery()),
            "{} s",
            storm.recovery()
        );
        assert_eq!(storm.report.service(storm.database).wasted, 0);
    }
}
