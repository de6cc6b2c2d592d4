//! A shop's checkout while its dependencies break, one after the other.
//!
//! Payment has two providers and fails over; the inventory is slow now and then and is hedged;
//! the notification may fail and falls back to "later". Run it and read what each policy did:
//!
//! ```text
//! cargo run --release --example checkout
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "sleeping stands in for the work of a dependency"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use outlast::fallback::Why;
use outlast::ratio::Ratio;
use outlast::{Attempt, Config, Error, Upstream};
use outlast::{breaker, budget, bulkhead, deadline, failover, hedge, retry};
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shop = Shop::new()?;

    println!("1. All is well.");
    shop.orders(20).await;

    println!("\n2. The provider stripe is down: payments fail over to adyen, and when stripe's");
    println!("   breaker has tripped they go there at once.");
    shop.world.stripe_is_down.store(1, Ordering::Relaxed);
    shop.orders(20).await;

    println!("\n3. One inventory answer in five hangs: a hedge overtakes it.");
    shop.world.stock_hangs_every.store(5, Ordering::Relaxed);
    shop.orders(20).await;

    println!("\n4. The mail server is gone, too: receipts are sent later, orders go on.");
    shop.world.mail_is_down.store(1, Ordering::Relaxed);
    shop.orders(20).await;

    println!("\n5. Stripe is back: after the cooldown three trials close its breaker.");
    shop.world.stripe_is_down.store(0, Ordering::Relaxed);
    sleep(COOLDOWN).await;
    shop.orders(20).await;
    Ok(())
}

/// Short, so that the example ends soon; the default is 30 s.
const COOLDOWN: Duration = Duration::from_millis(300);

/// The shop's view of what it depends on.
struct Shop {
    payment: Upstream,
    inventory: Upstream,
    notification: Upstream,
    world: Arc<World>,
}

/// What is broken.
#[derive(Default)]
struct World {
    stripe_is_down: AtomicU32,
    mail_is_down: AtomicU32,
    stock_hangs_every: AtomicU32,
    stock_calls: AtomicU32,
}

impl Shop {
    fn new() -> Result<Shop, outlast::ConfigError> {
        let payment = Config::new("payment")
            .endpoint("stripe")
            .endpoint("adyen")
            .failover(failover::Config::ordered())
            .breaker(breaker::Config::default().cooldown(COOLDOWN))
            .bulkhead(bulkhead::Config::new(10).queue(20))
            .deadline(deadline::Config::call(Duration::from_secs(3)));
        let inventory = Config::new("inventory")
            .hedge(hedge::Config::after(Duration::from_millis(20)))
            .budget(budget::Config::new(Ratio::percent(25)))
            .deadline(deadline::Config::call(Duration::from_secs(1)));
        let notification = Config::new("notification")
            .retry(retry::Config::attempts(2).backoff(Duration::from_millis(5)))
            .breaker(breaker::Config::default())
            .deadline(deadline::Config::call(Duration::from_millis(200)));
        Ok(Shop {
            payment: Upstream::new(payment)?,
            inventory: Upstream::new(inventory)?,
            notification: Upstream::new(notification)?,
            world: Arc::default(),
        })
    }

    /// Takes so many orders and tells how they went.
    async fn orders(&self, count: u32) {
        let before = self.counters();
        let mut placed = 0;
        let mut later = 0;
        for _ in 0..count {
            match self.order().await {
                Ok(Receipt::Sent) => placed += 1,
                Ok(Receipt::Later) => {
                    placed += 1;
                    later += 1;
                }
                Err(error) => println!("   an order failed: {error}"),
            }
        }
        println!("   {placed} of {count} orders placed, {later} receipts to be sent later");
        for ((what, now), (_, before)) in self.counters().into_iter().zip(before) {
            if now > before {
                println!("   {:>3} {what}", now - before);
            }
        }
        for endpoint in self.payment.stats().endpoints {
            let state = endpoint
                .breaker
                .map_or("none", |breaker| breaker.state.name());
            println!("       breaker of {}: {state}", endpoint.name);
        }
    }

    async fn order(&self) -> Result<Receipt, Error<&'static str>> {
        self.inventory
            .call(|_| reserve(Arc::clone(&self.world)))
            .await?;
        self.payment
            .call(|attempt| charge(Arc::clone(&self.world), attempt))
            .await?;
        self.notification
            .call(|_| send_receipt(Arc::clone(&self.world)))
            .fallback(|why| async move {
                match why {
                    Why::Rejected(_) | Why::Failed(_) => Ok(Receipt::Later),
                }
            })
            .await
    }

    fn counters(&self) -> [(&'static str, u64); 7] {
        let (payment, inventory) = (self.payment.stats(), self.inventory.stats());
        let notification = self.notification.stats();
        let rejected = notification.rejected(outlast::reject::Reason::Open);
        [
            ("charges by stripe", payment.endpoints[0].successes),
            ("charges by adyen", payment.endpoints[1].successes),
            (
                "failovers to adyen after a failed attempt at stripe",
                payment.failovers,
            ),
            ("hedges against a slow inventory", inventory.hedges),
            ("retries of a receipt", notification.retries),
            (
                "receipts not even tried: the mail server's breaker is open",
                rejected,
            ),
            ("receipts left to the fallback", notification.fallbacks),
        ]
    }
}

enum Receipt {
    Sent,
    Later,
}

async fn charge(world: Arc<World>, attempt: Attempt) -> Result<(), &'static str> {
    sleep(Duration::from_millis(2)).await;
    if attempt.endpoint() == "stripe" && world.stripe_is_down.load(Ordering::Relaxed) == 1 {
        return Err("stripe: connection refused");
    }
    // A real charge sends `attempt.idempotency_key()`, so that a repeated one counts once.
    Ok(())
}

async fn reserve(world: Arc<World>) -> Result<(), &'static str> {
    let call = world.stock_calls.fetch_add(1, Ordering::Relaxed);
    let every = world.stock_hangs_every.load(Ordering::Relaxed);
    let hangs = every > 0 && call.is_multiple_of(every);
    sleep(Duration::from_millis(if hangs { 5_000 } else { 2 })).await;
    Ok(())
}

async fn send_receipt(world: Arc<World>) -> Result<Receipt, &'static str> {
    sleep(Duration::from_millis(1)).await;
    if world.mail_is_down.load(Ordering::Relaxed) == 1 {
        Err("no route to host")
    } else {
        Ok(Receipt::Sent)
    }
}
