//! How runs went over time, second by second: what pictures are made of.

use outlast_config::scenario::Scenario;

use super::build::Numbers;
use crate::{ClientReport, Report, Times};

/// The course of one run, or of several added up.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// How many runs were added.
    pub runs: u32,
    /// By the second in which calls began, over all clients.
    pub seconds: Vec<CourseSecond>,
    /// The most requests at once in each second, by the scenario's services; summed over runs.
    pub present: Vec<Vec<u64>>,
    /// Sagas in flight in each second; summed over runs. Empty without sagas.
    pub flying: Vec<u64>,
    /// How many sagas began, ended done and ended undone, by the second in which they began; summed over
    /// runs. Empty without sagas.
    pub sagas: Vec<[u64; 3]>,
    /// Breakers that are open or try, by the plan's upstreams; summed over runs.
    pub open: Vec<Vec<u64>>,
}

/// What began in a second; summed over runs.
#[derive(Clone, Debug, Default)]
pub struct CourseSecond {
    /// Calls.
    pub calls: u64,
    /// Those of them that were good.
    pub good: u64,
    /// Attempts.
    pub attempts: u64,
    /// Latencies of good calls.
    pub times: Times,
}

impl Course {
    pub(super) fn new(report: &Report, numbers: &Numbers, scenario: &Scenario) -> Course {
        let clients: Vec<_> = numbers
            .clients
            .iter()
            .map(|id| report.client(*id))
            .collect();
        let samples = report.samples.iter();
        let present = |service: &crate::ServiceId| {
            samples
                .clone()
                .map(|sample| sample.present(*service))
                .collect()
        };
        let open = |upstreams: &Vec<crate::UpstreamId>| {
            let sum = |sample: &crate::Sample| {
                upstreams
                    .iter()
                    .map(|one| u64::from(sample.open(*one)))
                    .sum()
            };
            samples.clone().map(sum).collect()
        };
        Course {
            runs: 1,
            seconds: seconds(&clients, scenario),
            flying: match numbers.sagas.is_empty() {
                true => Vec::new(),
                false => samples.clone().map(|sample| sample.sagas).collect(),
            },
            sagas: sagas(report, numbers, scenario),
            present: numbers.services.iter().map(present).collect(),
            open: numbers.upstreams.iter().map(open).collect(),
        }
    }

    /// Adds another one of the same scenario.
    pub fn add(&mut self, other: &Course) {
        if self.runs == 0 {
            *self = other.clone();
            return;
        }
        self.runs += other.runs;
        for (sum, more) in self.seconds.iter_mut().zip(&other.seconds) {
            sum.calls += more.calls;
            sum.good += more.good;
            sum.attempts += more.attempts;
            sum.times.add(&more.times);
        }
        for (sum, more) in self.flying.iter_mut().zip(&other.flying) {
            *sum += more;
        }
        for (sums, more) in self.sagas.iter_mut().zip(&other.sagas) {
            for (sum, more) in sums.iter_mut().zip(more) {
                *sum += more;
            }
        }
        let rows = self.present.iter_mut().zip(&other.present);
        for (row, more) in rows.chain(self.open.iter_mut().zip(&other.open)) {
            for (sum, more) in row.iter_mut().zip(more) {
                *sum += more;
            }
        }
    }
}

/// How many sagas began, ended done and ended undone, by the second in which they began.
fn sagas(report: &Report, numbers: &Numbers, scenario: &Scenario) -> Vec<[u64; 3]> {
    if numbers.sagas.is_empty() {
        return Vec::new();
    }
    let mut seconds = vec![[0; 3]; scenario.lasts.as_secs() as usize];
    for saga in numbers.sagas.iter().map(|id| report.saga(*id)) {
        for (sums, second) in seconds.iter_mut().zip(&saga.seconds) {
            let more = [second.started, second.completed, second.compensated];
            for (sum, more) in sums.iter_mut().zip(more) {
                *sum += u64::from(more);
            }
        }
    }
    seconds
}

/// By the second in which calls began, over these clients.
pub(super) fn seconds(clients: &[&ClientReport], scenario: &Scenario) -> Vec<CourseSecond> {
    let count = scenario.lasts.as_secs() as usize;
    let mut seconds = vec![CourseSecond::default(); count];
    for client in clients {
        for (sum, second) in seconds.iter_mut().zip(&client.seconds) {
            sum.calls += u64::from(second.calls);
            sum.good += u64::from(second.good);
            sum.attempts += u64::from(second.attempts);
        }
        for (sum, times) in seconds.iter_mut().zip(&client.times) {
            sum.times.add(times);
        }
    }
    seconds
}
