//! What balancing is worth: queues behind a balancer, in virtual time, against queueing theory and
//! against a balancer that sees everything.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use outlast_core::balance::{Balance, Config, Endpoint, Kind, Wish};
use outlast_core::outcome::Outcome;
use outlast_core::rng::Rng;
use outlast_core::time::Time;

/// Who chooses the server for a request.
enum Chooser {
    Balance(Kind),
    /// Join the shortest queue: knows all lengths, ties at random.
    Shortest,
}

/// Servers with a number of workers and one queue each; requests arrive at random (Poisson) and
/// take an exponential time, 10 ms on a server of speed 1.
struct Farm {
    speeds: Vec<f64>,
    workers: usize,
    /// The part of all servers' capacity that is asked for.
    utilisation: f64,
    requests: usize,
}

const SERVICE: f64 = 10e6;

impl Farm {
    fn of(servers: usize, utilisation: f64) -> Farm {
        Farm {
            speeds: vec![1.0; servers],
            workers: 1,
            utilisation,
            requests: 150_000,
        }
    }

    fn workers(mut self, workers: usize) -> Farm {
        self.workers = workers;
        self
    }

    fn requests(mut self, requests: usize) -> Farm {
        self.requests = requests;
        self
    }

    /// The mean response time in mean service times, after a fifth to warm up. Arrivals and sizes
    /// are the same whoever chooses.
    fn mean_response(&self, chooser: Chooser) -> f64 {
        let capacity: f64 = self.speeds.iter().sum::<f64>() * self.workers as f64;
        let gap = SERVICE / (capacity * self.utilisation);
        let (mut arrivals, mut sizes, mut choices) = (Rng::new(1), Rng::new(2), Rng::new(3));
        let exponential = |rng: &mut Rng| -(1.0 - rng.unit()).ln();
        let endpoints = (0..self.speeds.len()).map(|one| Endpoint::new(one.to_string()));
        let kind = match chooser {
            Chooser::Balance(kind) => kind,
            Chooser::Shortest => Kind::LEAST_REQUESTS,
        };
        let balance = Balance::new(Config::new(kind), endpoints, Time::ZERO).unwrap();
        let mut lengths = vec![0u32; self.speeds.len()];
        let mut free = vec![vec![0.0f64; self.workers]; self.speeds.len()];
        let mut departures: BinaryHeap<Reverse<(u64, usize, u64, usize)>> = BinaryHeap::new();
        let (mut now, mut total, mut counted) = (0.0, 0.0, 0);
        for request in 0..self.requests {
            now += gap * exponential(&mut arrivals);
            while let Some(&Reverse((time, server, arrived, number))) = departures.peek() {
                if time as f64 > now {
                    break;
                }
                departures.pop();
                let took = Duration::from_nanos(time - arrived);
                balance.ended(server, Outcome::Success, took, Time::from_nanos(time));
                lengths[server] -= 1;
                if number >= self.requests / 5 {
                    total += took.as_nanos() as f64;
                    counted += 1;
                }
            }
            let time = Time::from_nanos(now as u64);
            let random = choices.next_u64();
            let server = match chooser {
                Chooser::Balance(_) => balance.choose(Wish::new(random), time, |_| false).unwrap(),
                Chooser::Shortest => shortest(&lengths, random),
            };
            balance.started(server);
            lengths[server] += 1;
            let worker = free[server]
                .iter_mut()
                .min_by(|one, other| one.total_cmp(other));
            let worker = worker.unwrap();
            *worker = worker.max(now) + SERVICE * exponential(&mut sizes) / self.speeds[server];
            departures.push(Reverse((*worker as u64, server, now as u64, request)));
        }
        total / f64::from(counted) / SERVICE
    }
}

fn shortest(lengths: &[u32], random: u64) -> usize {
    let start = random as usize % lengths.len();
    (0..lengths.len())
        .map(|offset| (start + offset) % lengths.len())
        .min_by_key(|&server| lengths[server])
        .unwrap()
}

#[track_caller]
fn assert_within(percent: f64, found: f64, expected: f64) {
    let off = 100.0 * (found / expected - 1.0).abs();
    assert!(
        off <= percent,
        "{found:.3} is {off:.1} % from {expected:.3}"
    );
}

/// The supermarket model of 500 servers: the mean response of two choices is the sum of
/// `utilisation^(2^i - 2)` (Mitzenmacher 1996; Vvedenskaya, Dobrushin, Karpelevich 1996).
#[test]
fn two_choices_equal_the_formula() {
    for (utilisation, requests) in [(0.7, 150_000), (0.9, 400_000)] {
        let powers = (1..12).map(|i| f64::powi(utilisation, (1 << i) - 2));
        let expected: f64 = powers.sum();
        let farm = Farm::of(500, utilisation).requests(requests);
        let found = farm.mean_response(Chooser::Balance(Kind::LEAST_REQUESTS));
        assert_within(3.0, found, expected);
    }
}

/// Where all twenty are compared, peak EWMA is as good as knowing all queues.
#[test]
fn comparing_all_of_twenty_equals_the_shortest_queue() {
    let all = Kind::PeakEwma {
        decay: Duration::from_secs(10),
        choices: 20,
    };
    for utilisation in [0.5, 0.7, 0.9] {
        let farm = Farm::of(20, utilisation);
        let found = farm.mean_response(Chooser::Balance(all));
        assert_within(5.0, found, farm.mean_response(Chooser::Shortest));
    }
}

/// Two choices are, too, where a server works at several requests at once, as most do. (With one
/// request at a time they cannot be: 1.28 against 1.00 service times at half load, by the formula.)
#[test]
fn two_choices_of_twenty_equal_the_shortest_queue_with_eight_workers_each() {
    for utilisation in [0.5, 0.7, 0.8] {
        let farm = Farm::of(20, utilisation).workers(8);
        let found = farm.mean_response(Chooser::Balance(Kind::PEAK_EWMA));
        assert_within(5.0, found, farm.mean_response(Chooser::Shortest));
    }
}

/// Queue lengths do not tell that a server is slow; latency does.
#[test]
fn two_choices_beat_the_shortest_queue_when_two_of_twenty_are_ten_times_slower() {
    for utilisation in [0.5, 0.7] {
        let mut farm = Farm::of(20, utilisation).workers(8);
        farm.speeds[3] = 0.1;
        farm.speeds[12] = 0.1;
        let found = farm.mean_response(Chooser::Balance(Kind::PEAK_EWMA));
        let shortest = farm.mean_response(Chooser::Shortest);
        assert!(found < shortest, "{found:.3} against {shortest:.3}");
    }
}
