//! One request and its answer, counted and logged when both are over.
//!
//! It travels with the request into the body of the answer; wherever that is dropped, the exchange
//! is over, complete or not. Failed exchanges are always logged, the others by sample.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Version, response};
use outlast::Clock;
use outlast::fallback::Why;
use outlast::outcome::Outcome;
use outlast::rate::Room;
use outlast::time::Time;

use crate::answer::Cut;
use crate::connection::Client;
use crate::metrics::Instead;
use crate::peers::Peer;
use crate::replay::Source;
use crate::rollout::Trial;
use crate::worker::Local;

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Exchange {
    client: Rc<Client>,
    local: Rc<Local>,
    began: Time,
    method: Method,
    route: Option<usize>,
    status: Option<StatusCode>,
    attempts: u32,
    endpoint: Option<Rc<Peer>>,
    reason: Option<&'static str>,
    path: Option<PathAndQuery>,
    body: Option<Source>,
    /// Which of its route's versions it tries, if there are two.
    trial: Option<Trial>,
    room: Cell<Option<Room>>,
    is_http2: bool,
    complete: bool,
    /// A call was made for it whose answer began after so long, and is not judged yet.
    asked: Option<Duration>,
}

impl Exchange {
    pub(crate) fn new<B>(client: Rc<Client>, local: Rc<Local>, request: &Request<B>) -> Exchange {
        client.times.request_begins();
        Exchange {
            client,
            local,
            began: Clock::Precise.now(),
            method: request.method().clone(),
            route: None,
            status: None,
            attempts: 0,
            endpoint: None,
            reason: None,
            path: request.uri().path_and_query().cloned(),
            body: None,
            trial: None,
            room: Cell::new(None),
            is_http2: request.version() == Version::HTTP_2,
            complete: false,
            asked: None,
        }
    }

    pub(crate) fn client(&self) -> &Rc<Client> {
        &self.client
    }

    pub(crate) fn local(&self) -> &Rc<Local> {
        &self.local
    }

    /// When its head was read.
    pub(crate) fn began(&self) -> Time {
        self.began
    }

    /// It takes this route.
    pub(crate) fn routed(&mut self, route: usize) {
        self.route = Some(route);
    }

    /// It goes to one of two versions.
    pub(crate) fn tries(&mut self, trial: Option<Trial>) {
        self.trial = trial;
    }

    /// The call of the upstream that it was meant for ended like this.
    pub(crate) fn called(&mut self, why: Option<Why>, attempts: u32) {
        if let Some(trial) = &mut self.trial {
            trial.called(why, attempts, Clock::Precise.now().since(self.began));
        }
    }

    /// Its request has this body.
    pub(crate) fn sends(&mut self, body: &Source) {
        self.body = Some(body.clone());
    }

    /// The body, if nobody has read it to its end.
    pub(crate) fn unread(&self) -> Option<Source> {
        self.body.clone().filter(|body| !body.has_ended())
    }

    /// Its calls made so many attempts, and this endpoint answered.
    pub(crate) fn attempted(&mut self, attempts: u32, endpoint: Option<Rc<Peer>>) {
        self.attempts += attempts;
        self.endpoint = endpoint;
    }

    /// So much is left of the rate limit that it was counted by.
    pub(crate) fn limited(&self, room: Option<Room>) {
        self.room.set(room);
    }

    /// The head of its answer goes out. While the gateway drains, an HTTP/1.1 connection ends with
    /// it.
    pub(crate) fn answered(&mut self, parts: &mut response::Parts) {
        self.status = Some(parts.status);
        if let Some(room) = self.room.get() {
            let reset = room.reset.as_nanos().div_ceil(1_000_000_000) as u64;
            parts.headers.insert(&RATELIMIT_LIMIT, room.limit.into());
            parts
                .headers
                .insert(&RATELIMIT_REMAINING, room.remaining.into());
            parts.headers.insert(&RATELIMIT_RESET, reset.into());
        }
        if !self.is_http2 && self.client.worker.is_draining() {
            parts
                .headers
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Its answer is a change of protocol.
    pub(crate) fn upgraded(&mut self) {
        self.status = Some(StatusCode::SWITCHING_PROTOCOLS);
    }

    /// The gateway answers itself, or instead of the upstream.
    pub(crate) fn because(&mut self, reason: &'static str) {
        self.reason = Some(reason);
    }

    /// A call that was made for it has an answer, whose head came after so long.
    pub(crate) fn asked(&mut self, took: Duration) {
        self.asked = Some(took);
    }

    /// That answer has ended, and means this. One that nobody judges says nothing.
    pub(crate) fn judged(&mut self, outcome: Outcome) {
        if let Some(trial) = &mut self.trial {
            trial.settle(outcome);
        }
        if let Some((took, degrade)) = self.asked.take().zip(self.local.table.degrade.as_ref()) {
            degrade.state.record(outcome, took);
        }
    }

    /// A mode made another answer of it.
    pub(crate) fn degraded(&self, instead: Instead) {
        let metrics = self.local.table.metrics_of(self.route);
        metrics.degraded(self.client.worker.index, instead);
    }

    /// Its answer is complete.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }

    /// Its answer breaks off.
    pub(crate) fn cut(&mut self, cut: &Cut) {
        self.reason = Some(match cut {
            Cut::Deadline => "deadline",
            Cut::Broken(_) => "broken",
        });
    }

    fn log(&self, took: Duration) {
        let local = &self.local.table;
        let route = self.route.map_or("-", |at| local.routes[at].name());
        tracing::info!(
            target: "outlast::access",
            client = %self.client.origin.address(),
            method = %self.method,
            path = self.path.as_ref().map_or("-", PathAndQuery::path),
            route,
            endpoint = self.endpoint.as_ref().map_or("-", |peer| &*peer.endpoint.name),
            status = self.status.map_or(0, |status| status.as_u16()),
            attempts = self.attempts,
            reason = self.reason.unwrap_or("-"),
            complete = self.complete,
            ms = took.as_secs_f64() * 1e3,
        );
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.client.times.request_ends();
        let worker = &self.client.worker;
        let took = Clock::Precise.now().since(self.began);
        let status = self
            .status
            .filter(|_| self.complete || self.reason.is_some());
        self.local
            .table
            .metrics_of(self.route)
            .record(worker.index, status, took);
        let route = self.route.map(|at| &self.local.table.routes[at]);
        let canary = route.and_then(|route| route.canary.as_ref());
        if let Some((canary, trial)) = canary.zip(self.trial.as_ref()) {
            canary.rollout.record(trial, took, self.unread().is_none());
        }
        let failed = self.status.is_some_and(|status| status.is_server_error());
        let failed = failed || self.reason.is_some();
        if worker.logs(failed, self.local.table.gateway.access_log) {
            self.log(took);
        }
    }
}

/// What is left of a rate limit (draft-ietf-httpapi-ratelimit-headers-06).
static RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
static RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
/// In seconds, rounded up.
static RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
