//! The day of trouble: what happens when, as shares of its length.

use std::io;
use std::time::Duration;

use super::shop::Shop;

/// A part of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chapter {
    Calm,
    PaymentDown,
    ReplicaSlow,
    ShippingHangs,
    NotificationDead,
    Burst,
    Recovery,
}

/// The chapters, and the hundredths of the day at which each begins.
const DAY: [(Chapter, u32); 9] = [
    (Chapter::Calm, 0),
    (Chapter::PaymentDown, 12),
    (Chapter::Calm, 26),
    (Chapter::ReplicaSlow, 30),
    (Chapter::ShippingHangs, 46),
    (Chapter::NotificationDead, 62),
    (Chapter::Burst, 72),
    (Chapter::Calm, 82),
    (Chapter::Recovery, 86),
];

/// The hundredths of the day at which the process that runs the orders is killed: while payment is
/// down, while shipping hangs, and under three times the load.
const KILLS: [u32; 3] = [18, 54, 77];

/// How often it has been killed by this time.
pub(crate) fn kills(time: Duration, day: Duration) -> usize {
    let share = share(time, day);
    KILLS.iter().filter(|at| **at <= share).count()
}

fn share(time: Duration, day: Duration) -> u32 {
    (time.as_secs_f64() / day.as_secs_f64() * 100.0) as u32
}

impl Chapter {
    /// The chapter at this time of a day of this length.
    pub(crate) fn at(time: Duration, day: Duration) -> Chapter {
        let share = share(time, day);
        let begun = DAY.iter().rev().find(|(_, begins)| *begins <= share);
        begun.map_or(Chapter::Calm, |(chapter, _)| *chapter)
    }

    /// What people are told.
    pub(crate) fn told(self) -> &'static str {
        match self {
            Chapter::Calm => "all is well",
            Chapter::PaymentDown => "payment provider stripe is down",
            Chapter::ReplicaSlow => "inventory replica a is slow",
            Chapter::ShippingHangs => "shipping hangs",
            Chapter::NotificationDead => "notification is dead",
            Chapter::Burst => "three times the load",
            Chapter::Recovery => "the trouble is over",
        }
    }

    /// How much more load there is.
    pub(crate) fn load(self) -> u32 {
        if self == Chapter::Burst { 3 } else { 1 }
    }

    /// Ends what the chapter before did, and begins this one.
    pub(crate) fn begin(self, before: Chapter, shop: &Shop) -> io::Result<()> {
        match before {
            Chapter::PaymentDown => shop.stripe.up()?,
            Chapter::ReplicaSlow => shop.replicas[0].set(|it| it.latency /= 60),
            Chapter::ShippingHangs => shop.shipping.set(|it| it.latency /= 1000),
            Chapter::NotificationDead => shop.notification.set(|it| it.broken = false),
            Chapter::Calm | Chapter::Burst | Chapter::Recovery => {}
        }
        match self {
            Chapter::PaymentDown => shop.stripe.down(),
            Chapter::ReplicaSlow => shop.replicas[0].set(|it| it.latency *= 60),
            Chapter::ShippingHangs => shop.shipping.set(|it| it.latency *= 1000),
            Chapter::NotificationDead => shop.notification.set(|it| it.broken = true),
            Chapter::Calm | Chapter::Burst | Chapter::Recovery => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chapter_has_its_time() {
        let day = Duration::from_secs(100);
        let told = |second| Chapter::at(Duration::from_secs(second), day);
        assert_eq!(told(0), Chapter::Calm);
        assert_eq!(told(12), Chapter::PaymentDown);
        assert_eq!(told(45), Chapter::ReplicaSlow);
        assert_eq!(told(99), Chapter::Recovery);
        assert_eq!(told(200), Chapter::Recovery);
        let kills = [0, 18, 60, 99].map(|second| kills(Duration::from_secs(second), day));
        assert_eq!(kills, [0, 1, 2, 3]);
    }
}
