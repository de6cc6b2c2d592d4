//! The five services of the shop, by what they do for an order.

use std::time::Duration;

use clap::ValueEnum;

/// A service of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Creates orders
    Order,
    /// Reserves what is ordered
    Inventory,
    /// Charges for it
    Payment,
    /// Schedules its shipment
    Shipping,
    /// Tells the customer
    Notification,
}

/// What a ledger says was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Done,
    Undone,
    /// It was to be undone and had not been done: now it never will be.
    Void,
}

impl Role {
    /// In the order in which an order needs them.
    pub(crate) const ALL: [Role; 5] = [
        Role::Order,
        Role::Inventory,
        Role::Payment,
        Role::Shipping,
        Role::Notification,
    ];

    /// The name of its upstream, and of its ledger.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Order => "order",
            Role::Inventory => "inventory",
            Role::Payment => "payment",
            Role::Shipping => "shipping",
            Role::Notification => "notification",
        }
    }

    /// The first part of its paths, such as `charges` in `POST /charges/order-1`.
    pub(crate) fn things(self) -> &'static str {
        match self {
            Role::Order => "orders",
            Role::Inventory => "reservations",
            Role::Payment => "charges",
            Role::Shipping => "shipments",
            Role::Notification => "mails",
        }
    }

    /// The word of its ledger for an effect.
    pub(crate) fn word(self, effect: Effect) -> &'static str {
        let [done, undone, void] = match self {
            Role::Order => ["created", "cancelled", "nothing to cancel"],
            Role::Inventory => ["reserved", "released", "nothing to release"],
            Role::Payment => ["charged", "refunded", "nothing to refund"],
            Role::Shipping => ["scheduled", "called off", "nothing to call off"],
            Role::Notification => ["sent", "taken back", "nothing to take back"],
        };
        match effect {
            Effect::Done => done,
            Effect::Undone => undone,
            Effect::Void => void,
        }
    }

    /// The effect of a word of its ledger.
    pub(crate) fn effect(self, word: &str) -> Option<Effect> {
        let all = [Effect::Done, Effect::Undone, Effect::Void];
        all.into_iter().find(|effect| self.word(*effect) == word)
    }

    /// How long it takes when all is well.
    pub(crate) fn latency(self) -> Duration {
        Duration::from_millis(match self {
            Role::Order => 2,
            Role::Inventory => 8,
            Role::Payment => 20,
            Role::Shipping => 15,
            Role::Notification => 5,
        })
    }
}
