//! The shop: five services, and how an order goes through them.
//!
//! The order service has sixteen workers. For an order it reserves the items, charges, asks for a
//! shipping quote and sends a receipt; without the last two the order stands all the same. So the
//! code is the same on both sides; they differ in where they call: the protected one calls through
//! the gateway, the other one calls the services themselves, by a client with the usual timeout
//! of half a minute.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use reqwest::Client;
use tokio::sync::Semaphore;

use super::service::Service;

/// One shop with its services.
pub(crate) struct Shop {
    pub(crate) order: Service,
    pub(crate) stripe: Arc<Service>,
    pub(crate) adyen: Arc<Service>,
    pub(crate) replicas: [Arc<Service>; 2],
    pub(crate) shipping: Arc<Service>,
    pub(crate) notification: Arc<Service>,
    workers: Arc<Semaphore>,
}

/// Where the order service calls.
#[derive(Clone)]
pub(crate) enum Calls {
    /// Everything through one address, once it is known.
    Gateway(Arc<std::sync::OnceLock<String>>),
    /// Each service itself; the inventory's replicas in turn.
    Direct,
}

/// Workers of the order service.
pub(crate) const WORKERS: usize = 16;

impl Shop {
    pub(crate) fn open(calls: Calls, seed: u64) -> io::Result<Shop> {
        let idle = |millis, at| {
            Service::idle(Duration::from_millis(millis), seed.wrapping_add(at)).map(Arc::new)
        };
        let (stripe, adyen) = (idle(20, 1)?, idle(25, 2)?);
        let replicas = [idle(8, 3)?, idle(8, 4)?];
        let (shipping, notification) = (idle(15, 5)?, idle(5, 6)?);
        let workers = Arc::new(Semaphore::new(WORKERS));
        let desk = Arc::new(Desk {
            client: client(Duration::from_secs(30))?,
            calls,
            direct: [
                format!("http://{}/charge", stripe.address),
                format!("http://{}/quote", shipping.address),
                format!("http://{}/receipt", notification.address),
            ],
            stock: replicas
                .each_ref()
                .map(|replica| format!("http://{}", replica.address)),
            orders: AtomicU64::new(0),
        });
        let seats = Arc::clone(&workers);
        let work = move |_| -> std::pin::Pin<Box<dyn Future<Output = StatusCode> + Send>> {
            let (desk, seats) = (Arc::clone(&desk), Arc::clone(&seats));
            Box::pin(async move {
                let _worker = seats.acquire().await;
                desk.order().await
            })
        };
        Ok(Shop {
            order: Service::start(Duration::from_millis(2), seed, Arc::new(work))?,
            stripe,
            adyen,
            replicas,
            shipping,
            notification,
            workers,
        })
    }

    /// How many workers of the order service are busy.
    pub(crate) fn busy_workers(&self) -> usize {
        WORKERS - self.workers.available_permits()
    }
}

/// What a worker of the order service knows.
struct Desk {
    client: Client,
    calls: Calls,
    direct: [String; 3],
    stock: [String; 2],
    orders: AtomicU64,
}

impl Desk {
    async fn order(&self) -> StatusCode {
        let number = self.orders.fetch_add(1, Ordering::Relaxed);
        let replica = &self.stock[(number % 2) as usize];
        let reserved = self
            .client
            .get(self.url(&format!("{replica}/stock/{}", number % 10)));
        if !is_done(reserved).await {
            return StatusCode::BAD_GATEWAY;
        }
        let [charge, quote, receipt] = self.direct.each_ref().map(|url| {
            self.client
                .post(self.url(url))
                .header("idempotency-key", format!("order-{number}"))
        });
        if !is_done(charge).await {
            return StatusCode::BAD_GATEWAY;
        }
        // Without these the order stands.
        is_done(quote).await;
        is_done(receipt).await;
        StatusCode::CREATED
    }

    fn url(&self, direct: &str) -> String {
        match &self.calls {
            Calls::Direct => direct.to_owned(),
            Calls::Gateway(address) => {
                let path = direct.splitn(4, '/').nth(3).unwrap_or_default();
                let address = address.get().map_or("", String::as_str);
                format!("http://{address}/{path}")
            }
        }
    }
}

async fn is_done(request: reqwest::RequestBuilder) -> bool {
    let answered = request.send().await;
    answered.is_ok_and(|response| response.status().is_success())
}

/// An HTTP client that gives up after `timeout`.
pub(crate) fn client(timeout: Duration) -> io::Result<Client> {
    Client::builder()
        .timeout(timeout)
        .no_proxy()
        .tcp_nodelay(true)
        .build()
        .map_err(io::Error::other)
}
