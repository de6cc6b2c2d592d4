//! Customers who place orders, and what they are told of them.
//!
//! An order goes through all five services. With Outlast it is a saga: a customer asks the gateway for
//! it, asks again with the same key when nobody answers, and looks until it has ended. Without, it is
//! the plain code that is written first: one call after the other, two seconds for each, and an error
//! ends it. A mail that is not sent fails no order on either side.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_core::rng::Rng;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ledger::HEAVY;
use super::role::Role;
use super::service::lock;
use super::shop::{Shop, client, is_done};

/// What a customer was told of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing: nobody has taken it, so far.
    Nothing,
    /// It was taken, and has not ended so far.
    Running,
    Completed,
    /// All that was done is undone.
    Compensated,
    /// It did not work, and nothing is said of what was done.
    Failed,
}

/// What customers were told, by the order.
pub(crate) type Board = BTreeMap<String, Told>;

/// Those who order at one shop.
#[derive(Clone)]
pub(crate) struct Buyers {
    client: Client,
    way: Arc<Way>,
    board: Arc<Mutex<Board>>,
}

enum Way {
    /// At the admin listener of the gateway that runs sagas, wherever it is now.
    Saga(watch::Receiver<SocketAddr>),
    /// At the services themselves, in the order of [`Role::ALL`].
    Plain([SocketAddr; 5]),
}

impl Buyers {
    /// They order at a gateway.
    pub(crate) fn with_sagas(admin: watch::Receiver<SocketAddr>) -> io::Result<Buyers> {
        Buyers::new(Way::Saga(admin))
    }

    /// Their orders are plain code.
    pub(crate) fn plain(shop: &Shop) -> io::Result<Buyers> {
        let services = Role::ALL.map(|role| shop.keeper(role).address);
        Buyers::new(Way::Plain(services))
    }

    fn new(way: Way) -> io::Result<Buyers> {
        Ok(Buyers {
            client: client(A_CALL)?,
            way: Arc::new(way),
            board: Arc::default(),
        })
    }

    /// What they were told so far.
    pub(crate) fn board(&self) -> Board {
        lock(&self.board).clone()
    }

    /// They order at a steady rate for as long as the day lasts, and wait for what becomes of their
    /// orders, for a while.
    pub(crate) async fn come(self, began: Instant, day: Duration, seed: u64) {
        let mut rng = Rng::new(seed);
        let mut ticks = tokio::time::interval_at(began, BETWEEN);
        let mut waiting = JoinSet::new();
        for number in 1_u32.. {
            ticks.tick().await;
            if began.elapsed() >= day {
                break;
            }
            let item = match rng.unit() {
                0.9.. => HEAVY,
                _ => "a book",
            };
            waiting.spawn(self.clone().order(format!("order-{number}"), item));
            while waiting.try_join_next().is_some() {}
        }
        // What has not ended by then is told as such.
        let _ = tokio::time::timeout(LAST, waiting.join_all()).await;
    }

    async fn order(self, id: String, item: &'static str) {
        self.tell(&id, Told::Nothing);
        match &*self.way {
            Way::Saga(admin) => self.saga(&id, item, admin).await,
            Way::Plain(services) => {
                let told = match self.plainly(&id, item, services).await {
                    true => Told::Completed,
                    false => Told::Failed,
                };
                self.tell(&id, told);
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "customers wait a moment")]
    async fn saga(&self, id: &str, item: &str, admin: &watch::Receiver<SocketAddr>) {
        let mut is_taken = false;
        let mut pause = SOON;
        loop {
            let at = *admin.borrow();
            let request = if is_taken {
                self.client.get(format!("http://{at}/sagas/{id}"))
            } else {
                let start = format!("http://{at}/sagas/order?wait=1s");
                let input = json!({ "item": item, "euros": 20 });
                self.client
                    .post(start)
                    .header("idempotency-key", id)
                    .body(input.to_string())
            };
            if let Some(state) = state(request).await {
                is_taken = true;
                let told = match &*state {
                    "completed" => Told::Completed,
                    "compensated" => Told::Compensated,
                    _ => Told::Running,
                };
                self.tell(id, told);
                if told != Told::Running {
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LATER);
        }
    }

    /// One call after the other; whether it worked.
    async fn plainly(&self, id: &str, item: &str, services: &[SocketAddr; 5]) -> bool {
        for (role, address) in Role::ALL.into_iter().zip(services) {
            let call = self
                .client
                .post(format!("http://{address}/{}/{id}", role.things()))
                .header("idempotency-key", format!("{id}/{}", role.name()))
                .body(json!({ "item": item, "euros": 20 }).to_string());
            if !is_done(call).await && role != Role::Notification {
                return false;
            }
        }
        true
    }

    fn tell(&self, id: &str, told: Told) {
        lock(&self.board).insert(id.to_owned(), told);
    }
}

/// The state of a saga, if the gateway tells it.
async fn state(request: reqwest::RequestBuilder) -> Option<String> {
    let answer = request.send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let told: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
    told["state"].as_str().map(str::to_owned)
}

/// Between two orders: 150 in half a minute.
const BETWEEN: Duration = Duration::from_millis(200);
/// How long a call may take: for plain code, and for a look at a saga.
const A_CALL: Duration = Duration::from_secs(2);
/// Until a customer looks again: at first, and after a while.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(2);
/// How long after the end of the day they wait. What undoes a step is tried every two seconds or so, but
/// the machine may have much else to do.
const LAST: Duration = Duration::from_secs(60);
