//! The shop: five services, and how a checkout goes through them.
//!
//! Each service keeps a ledger of what it did for orders. Beside that the order service has sixteen
//! workers for checkouts. For one it looks for the items, charges, asks for a shipping quote and sends
//! a receipt; without the last two the checkout stands all the same. So the code is the same on both
//! sides; they differ in where they call: the protected one calls through the gateway, the other one
//! calls the services themselves, by a client with the usual timeout of half a minute.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use reqwest::Client;
use tokio::sync::Semaphore;

use super::ledger::Ledger;
use super::role::Role;
use super::service::{Answer, Service};

/// One shop with its services.
pub(crate) struct Shop {
    pub(crate) order: Service,
    pub(crate) stripe: Service,
    pub(crate) adyen: Service,
    pub(crate) replicas: [Service; 2],
    pub(crate) shipping: Service,
    pub(crate) notification: Service,
    workers: Arc<Semaphore>,
}

/// Where the order service calls.
pub(crate) enum Calls {
    /// Everything through one address, once it is known.
    Gateway(Arc<OnceLock<String>>),
    /// Each service itself; the inventory's replicas in turn.
    Direct(Direct),
}

/// Where services are.
pub(crate) struct Direct {
    payment: SocketAddr,
    replicas: [SocketAddr; 2],
    shipping: SocketAddr,
    notification: SocketAddr,
}

/// Workers of the order service.
pub(crate) const WORKERS: usize = 16;

impl Shop {
    /// Opens it at free ports. Its order service calls through the gateway at this address, or
    /// everybody itself.
    pub(crate) fn open(gateway: Option<Arc<OnceLock<String>>>, seed: u64) -> io::Result<Shop> {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let drawn = |at| seed.wrapping_add(at);
        let ledger = |role| Arc::new(Ledger::new(role));
        let keeps = |role, at| keeps(role, free, drawn(at), &ledger(role));
        let stock = ledger(Role::Inventory);
        let replica = |at| self::keeps(Role::Inventory, free, drawn(at), &stock);
        let (stripe, adyen) = (keeps(Role::Payment, 1)?, second_provider(free, drawn(2))?);
        let replicas = [replica(3)?, replica(4)?];
        let (shipping, notification) = (keeps(Role::Shipping, 5)?, keeps(Role::Notification, 6)?);
        let calls = match gateway {
            Some(address) => Calls::Gateway(address),
            None => Calls::Direct(Direct {
                payment: stripe.address,
                replicas: replicas.each_ref().map(|replica| replica.address),
                shipping: shipping.address,
                notification: notification.address,
            }),
        };
        let workers = Arc::new(Semaphore::new(WORKERS));
        Ok(Shop {
            order: orders(free, seed, &ledger(Role::Order), calls, &workers)?,
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

    /// One that keeps the ledger of a role.
    pub(crate) fn keeper(&self, role: Role) -> &Service {
        match role {
            Role::Order => &self.order,
            Role::Inventory => &self.replicas[0],
            Role::Payment => &self.stripe,
            Role::Shipping => &self.shipping,
            Role::Notification => &self.notification,
        }
    }

    /// The one behind an endpoint of the policies.
    pub(crate) fn behind(&self, upstream: &str, endpoint: &str) -> &Service {
        match (upstream, endpoint) {
            ("order", _) => &self.order,
            ("payment", "adyen") => &self.adyen,
            ("payment" | "bank", _) => &self.stripe,
            ("inventory", "a") => &self.replicas[0],
            ("inventory", _) => &self.replicas[1],
            ("shipping", _) => &self.shipping,
            _ => &self.notification,
        }
    }
}

/// A service that keeps a ledger, and has a good answer to all else.
pub(crate) fn keeps(
    role: Role,
    at: SocketAddr,
    seed: u64,
    ledger: &Arc<Ledger>,
) -> io::Result<Service> {
    let ledger = Arc::clone(ledger);
    let work = move |request| -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let ledger = Arc::clone(&ledger);
        Box::pin(async move { ledger.answer(request).await.unwrap_or_else(fine) })
    };
    Service::start(at, role.latency(), seed, Arc::new(work))
}

/// The provider that checkouts fall back on. No order goes there: it is refunded where it was paid.
pub(crate) fn second_provider(at: SocketAddr, seed: u64) -> io::Result<Service> {
    let latency = Role::Payment.latency() + Duration::from_millis(5);
    Service::start(at, latency, seed, Arc::new(|_| Box::pin(async { fine() })))
}

/// The order service.
pub(crate) fn orders(
    at: SocketAddr,
    seed: u64,
    ledger: &Arc<Ledger>,
    calls: Calls,
    workers: &Arc<Semaphore>,
) -> io::Result<Service> {
    let desk = Arc::new(Desk {
        client: client(Duration::from_secs(30))?,
        calls,
        checkouts: AtomicU64::new(0),
    });
    let (ledger, seats) = (Arc::clone(ledger), Arc::clone(workers));
    let work = move |request: Request<Incoming>| -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let (desk, ledger) = (Arc::clone(&desk), Arc::clone(&ledger));
        let seats = Arc::clone(&seats);
        Box::pin(async move {
            if let Some(answer) = ledger.answer(request).await {
                return answer;
            }
            let _worker = seats.acquire().await;
            (desk.checkout().await, "{}".to_owned())
        })
    };
    Service::start(at, Role::Order.latency(), seed, Arc::new(work))
}

fn fine() -> Answer {
    (StatusCode::OK, "{}".to_owned())
}

/// What a worker of the order service knows.
struct Desk {
    client: Client,
    calls: Calls,
    checkouts: AtomicU64,
}

impl Desk {
    async fn checkout(&self) -> StatusCode {
        let number = self.checkouts.fetch_add(1, Ordering::Relaxed);
        let stock = self.url(Role::Inventory, number, &format!("stock/{}", number % 10));
        if !is_done(self.client.get(stock)).await {
            return StatusCode::BAD_GATEWAY;
        }
        let post = |role, path| {
            self.client
                .post(self.url(role, number, path))
                .header("idempotency-key", format!("order-{number}"))
        };
        if !is_done(post(Role::Payment, "charge")).await {
            return StatusCode::BAD_GATEWAY;
        }
        // Without these the order stands.
        is_done(post(Role::Shipping, "quote")).await;
        is_done(post(Role::Notification, "receipt")).await;
        StatusCode::CREATED
    }

    fn url(&self, role: Role, number: u64, path: &str) -> String {
        match &self.calls {
            Calls::Gateway(address) => {
                let address = address.get().map_or("", String::as_str);
                format!("http://{address}/{path}")
            }
            Calls::Direct(direct) => {
                let address = match role {
                    Role::Inventory => direct.replicas[(number % 2) as usize],
                    Role::Payment => direct.payment,
                    Role::Shipping => direct.shipping,
                    _ => direct.notification,
                };
                format!("http://{address}/{path}")
            }
        }
    }
}

/// Whether a request was answered well.
pub(crate) async fn is_done(request: reqwest::RequestBuilder) -> bool {
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
