//! Queues: requests that wait for their upstream.

use std::time::Duration;

use outlast_core::backoff::Backoff;

use super::SagaStatus;

/// A queue of requests to one upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The name of the upstream that it is delivered to; `None` if no upstream has it, and what is in it
    /// waits.
    pub upstream: Option<String>,
    /// What is delivered in order. Default: nothing.
    pub key: QueueKey,
    /// No delivery begins later. Default 7 days.
    pub max_age: Duration,
    /// Attempts in all. Default 24.
    pub attempts: u32,
    /// The waits between them. Default: exponential from 1 s to 10 min, half of it random.
    pub backoff: Backoff,
    /// Deliveries a second to begin with. Default 10.
    pub slowest: f64,
    /// Deliveries a second at most. Default 1,000.
    pub fastest: f64,
    /// Deliveries at once. Default 16.
    pub concurrency: usize,
    /// How long an attempt may take. Default 30 s.
    pub timeout: Duration,
    /// Requests that wait or are dead. Default 100,000.
    pub messages: usize,
    /// Bytes of all of them. Default 1 GiB.
    pub bytes: usize,
    /// Bytes of one. Default 1 MiB.
    pub message_bytes: usize,
    /// How long ids are known. Default 24 h.
    pub remember: Duration,
    /// The header fields that are kept, in lower case; `None`: all.
    pub headers: Option<Vec<String>>,
    /// Whether credentials are kept. Default: no.
    pub credentials: bool,
    /// What statuses mean, the narrowest range first. Default: none beside the usual.
    pub outcomes: Vec<SagaStatus>,
    /// Where clients ask for the state of a request. Default `/queues/NAME`; `None`: nowhere.
    pub status_path: Option<String>,
}

/// What requests of a queue are delivered in order by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueKey {
    /// Nothing: all at once.
    None,
    /// The client's address.
    Client,
    /// Host and path, without the query.
    Path,
    /// The value of this header, lower case.
    Header(String),
}
