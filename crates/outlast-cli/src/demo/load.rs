//! Customers: a steady stream that does not wait for the shop, and what each of them got.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_core::rng::Rng;
use reqwest::{Client, RequestBuilder};
use tokio::time::Instant;

use super::service::lock;
use super::shop::client;
use super::story::Chapter;

/// What customers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Checkout,
    Stock,
}

impl Action {
    pub(crate) const ALL: [Action; 2] = [Action::Checkout, Action::Stock];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::Checkout => "checkout",
            Action::Stock => "stock",
        }
    }
}

/// What a customer got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) action: Action,
    /// When the customer came, from the beginning of the day.
    pub(crate) came: Duration,
    pub(crate) took: Duration,
    pub(crate) ok: bool,
}

/// The customers of one shop.
#[derive(Clone)]
pub(crate) struct Customers {
    client: Client,
    checkout: String,
    stock: [String; 2],
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Customers {
    /// They order at one address, and ask for stock at two in turn.
    pub(crate) fn new(orders: SocketAddr, stock: [SocketAddr; 2]) -> io::Result<Customers> {
        Ok(Customers {
            client: client(PATIENCE)?,
            checkout: format!("http://{orders}/checkout"),
            stock: stock.map(|address| format!("http://{address}/stock/7")),
            samples: Arc::default(),
        })
    }

    /// What they got so far.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        lock(&self.samples).clone()
    }

    /// They come for as long as the day lasts, and are waited for.
    pub(crate) async fn come(self, began: Instant, day: Duration, seed: u64) {
        let mut rng = Rng::new(seed);
        let mut next = began;
        let mut waiting = tokio::task::JoinSet::new();
        while began.elapsed() < day {
            tokio::time::sleep_until(next).await;
            let load = Chapter::at(began.elapsed(), day).load();
            let mean = 1.0 / f64::from(PER_SECOND * load);
            next += Duration::from_secs_f64(-mean * (1.0 - rng.unit()).max(1e-6).ln());
            let request = match (rng.unit() * 4.0) as usize {
                at @ 0..2 => (Action::Stock, self.client.get(&self.stock[at])),
                _ => (Action::Checkout, self.client.post(&self.checkout)),
            };
            waiting.spawn(self.clone().ask(request, began));
            while waiting.try_join_next().is_some() {}
        }
        waiting.join_all().await;
    }

    async fn ask(self, (action, request): (Action, RequestBuilder), began: Instant) {
        let came = began.elapsed();
        let answer = request.send().await;
        let sample = Sample {
            action,
            came,
            took: began.elapsed() - came,
            ok: answer.is_ok_and(|answer| answer.status().is_success()),
        };
        lock(&self.samples).push(sample);
    }
}

/// How long a customer waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Customers per second at each shop.
const PER_SECOND: u32 = 80;

/// How some customers fared: their number, the share that was served, the slow end of their times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fared {
    pub(crate) count: usize,
    pub(crate) success: f64,
    pub(crate) p95: Duration,
    pub(crate) p99: Duration,
}

impl Fared {
    pub(crate) fn of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Fared {
        let mut ok = 0;
        let mut times: Vec<Duration> = samples
            .map(|sample| {
                ok += usize::from(sample.ok);
                sample.took
            })
            .collect();
        times.sort_unstable();
        let count = times.len();
        let quantile = |share: f64| {
            let at = (count as f64 * share).ceil() as usize;
            times.get(at.saturating_sub(1)).copied().unwrap_or_default()
        };
        Fared {
            count,
            success: if count == 0 {
                1.0
            } else {
                ok as f64 / count as f64
            },
            p95: quantile(0.95),
            p99: quantile(0.99),
        }
    }
}
