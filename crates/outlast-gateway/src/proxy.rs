//! A request's way through the gateway.
//!
//! ```text
//! target ─ route ─ headers ─ deadline ─ call through the upstream's policies ─ answer
//!                                            └─ fallback: stale, another upstream, a queue, fixed
//! ```
//!
//! Whatever cannot be served is refused with a reason, in the client's language. An answer that the
//! policies judged a failure and nothing could replace is still the upstream's answer, and is
//! passed on as it is.

mod instead;
mod queued;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use outlast::fallback::Why;
use outlast::outcome::Outcome;
use outlast::reject::Reason;
use outlast::tier::Tier;
use outlast::time::Time;
use outlast::{Clock, Error, OpenAnswer, Opened, headers, instant_of};
use outlast_config::plan::Repeat;
use tokio::time::Instant;

use crate::answer::{Answer, Body, grpc_code};
use crate::attempt::{self, Failure, Head, Template, wall};
use crate::connection::Client;
use crate::degrade::{self, Degradation};
use crate::exchange::Exchange;
use crate::forward;
use crate::hold::{self, Hold};
use crate::metrics::Instead;
use crate::refusal::{Dialect, Refusal};
use crate::replay::{Bounds, Fault, Source};
use crate::rollout::Trial;
use crate::routes;
use crate::stale::Stale;
use crate::table::{Counts, Entry, Table, Upstream};
use crate::target::Target;
use crate::tunnel::Tunnel;

/// Answers a request. What most requests do not need is boxed: hyper moves this future around.
pub(crate) async fn serve(client: Rc<Client>, request: Request<Incoming>) -> Response<Body> {
    let local = client.worker.local();
    let mut exchange = Box::new(Exchange::new(client, local, &request));
    let dialect = Dialect::of(request.headers());
    if request.method() == Method::OPTIONS && request.uri().path() == "*" {
        return close(exchange, of_the_server()).await;
    }
    if exchange.client().worker.shared.queues.is_some() {
        let path = request.uri().path();
        let status = Box::pin(queued::status(&exchange, request.method(), path));
        if let Some(answer) = status.await {
            return close(exchange, answer).await;
        }
    }
    match prepare(&mut exchange, request, dialect) {
        Ok(prepared) if prepared.off.is_some() => Box::pin(switched_off(exchange, prepared)).await,
        Ok(prepared) if prepared.shield => Box::pin(shielded(exchange, prepared)).await,
        Ok(prepared) => forward(exchange, prepared).await,
        Err(refusal) => Box::pin(refuse(exchange, &refusal, dialect)).await,
    }
}

/// Forwards on a task of its own, which goes on when the client's connection ends. The deadline
/// bounds it.
async fn shielded(exchange: Box<Exchange>, prepared: Prepared) -> Response<Body> {
    let (upstream, dialect) = (prepared.upstream, prepared.template.dialect);
    let refusal = no_answer(&exchange, upstream);
    let forwarded = tokio::task::spawn_local(forward(exchange, prepared));
    // It is never aborted, so only a panic leaves nothing.
    forwarded.await.unwrap_or_else(|_| refusal.answer(dialect))
}

/// `OPTIONS *` asks about the server, which is this one (RFC 9110, 9.3.7).
fn of_the_server() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A request that is ready to be forwarded.
struct Prepared {
    template: Rc<Template>,
    /// The place of its upstream.
    upstream: usize,
    /// Which version that is, if the route has two.
    trial: Option<Trial>,
    deadline: Time,
    /// Whether that is the client's own, and not the route's.
    deadline_is_clients: bool,
    /// Whether client and route agree that its protocol may change.
    may_switch: bool,
    /// Whether it goes on although its client has gone.
    shield: bool,
    tier: Tier,
    /// What a stale answer is found by.
    stale_key: Option<Arc<str>>,
    /// Its route, if a mode has switched that off.
    off: Option<Off>,
}

/// A route that is switched off, and the mode.
struct Off {
    route: usize,
    mode: HeaderValue,
}

fn prepare(
    exchange: &mut Exchange,
    request: Request<Incoming>,
    dialect: Dialect,
) -> Result<Prepared, Refusal> {
    let local = Rc::clone(exchange.local());
    let (table, limits) = (&local.table, &local.table.gateway.limits);
    let (mut parts, body) = request.into_parts();
    let body = Source::new(body, &exchange.client().times);
    exchange.sends(&body);
    let target = Target::read(&parts, limits.uri_bytes)?;
    let at = table.route(&parts.method, target.host(), target.path(), &parts.headers);
    let at = at.ok_or(Refusal::NoRoute)?;
    exchange.routed(at);
    let (route, canary) = (&table.routes[at].rule, &table.routes[at].canary);
    let trial = canary.as_ref().map(|canary| {
        let origin = &exchange.client().origin;
        let client = || origin.client(&parts.headers, &table.gateway.trusted_proxies);
        let rollout = &canary.rollout;
        rollout.choose(&parts.headers, client, exchange.began())
    });
    let place = table.routes[at].upstream(trial.as_ref());
    let found = forward::scan(&parts.headers, limits.underscores)?;
    let clients = found.deadline.then(|| take_deadline(&mut parts.headers));
    let (deadline, deadline_is_clients) =
        deadline(clients.flatten(), route.plan.deadline, exchange.began());
    let tier = exchange
        .client()
        .origin
        .tier(&parts.headers, route.plan.tier);
    let wishes = forward::request(
        &mut parts,
        &found,
        &exchange.client().origin,
        &target.authority,
        tier,
        limits.underscores,
    )?;
    let mode = table.degrade.as_ref().and_then(|degrade| degrade.mode());
    if let Some(mode) = mode {
        parts.headers.insert(&headers::X_DEGRADED, mode.clone());
    }
    let may_switch = wishes.upgrade && route.plan.upgrade;
    if wishes.upgrade && !may_switch {
        parts.headers.remove(header::UPGRADE);
        parts.headers.remove(header::CONNECTION);
    }
    let entry = &table.upstreams[place];
    let (upstream, queued) = (&entry.upstream, entry.queued_bytes);
    if queued > 0 {
        queued::within(&parts.headers).map_err(Refusal::Malformed)?;
    }
    let bounds = Bounds {
        replay: upstream.plan.replay_bytes,
        queue: if parts.method.is_safe() { 0 } else { queued },
        whole: limits.body_bytes,
    };
    body.bound(bounds);
    if body.is_too_large() {
        return Err(Refusal::BodyTooLarge);
    }
    let stale_key = upstream.stale.as_ref().and_then(|_| {
        let host = target.host().to_ascii_lowercase();
        let asked = format!("{host}{}", target.path_and_query);
        Stale::key(&parts.method, &asked, &parts.headers)
    });
    Ok(Prepared {
        template: Rc::new(template(parts, target, body, dialect, route, entry)?),
        upstream: place,
        trial,
        deadline,
        deadline_is_clients,
        may_switch,
        shield: route.plan.shield,
        tier,
        stale_key,
        off: off(table, at, mode),
    })
}

/// Whether a mode has switched a route off.
fn off(table: &Table, route: usize, mode: Option<&HeaderValue>) -> Option<Off> {
    let degrade = table.degrade.as_ref()?;
    let mode = mode.filter(|_| degrade.is_off(route))?.clone();
    Some(Off { route, mode })
}

/// How long the client will wait. What it said is removed: every attempt says anew what is left.
fn take_deadline(headers: &mut HeaderMap) -> Option<Duration> {
    let remaining = headers::remaining(headers, wall(), headers::SKEW);
    for name in [
        &headers::X_DEADLINE,
        &headers::X_DEADLINE_SENT,
        &headers::GRPC_TIMEOUT,
    ] {
        headers.remove(name);
    }
    remaining
}

/// When the exchange ends, and whether that is the client's wish.
fn deadline(clients: Option<Duration>, route: Option<Duration>, now: Time) -> (Time, bool) {
    let routes = route.map_or(Time::MAX, |limit| now + limit);
    match clients {
        Some(limit) if now + limit < routes => (now + limit, true),
        _ => (routes, false),
    }
}

fn template(
    parts: http::request::Parts,
    target: Target,
    body: Source,
    dialect: Dialect,
    route: &routes::Route,
    entry: &Entry,
) -> Result<Template, Refusal> {
    let upstream = &entry.upstream;
    hold::check_key(upstream, &parts.headers)?;
    let has_key = || parts.headers.contains_key(&upstream.idempotency_key);
    let makes_key = route.plan.make_idempotency_key && !has_key();
    let repeatable = match route.plan.repeat {
        Repeat::Safe => makes_key || parts.method.is_idempotent() || has_key(),
        Repeat::Always => true,
        Repeat::Never => false,
    };
    let path_and_query = match route.rewritten(target.path()) {
        ("", _) => target.path_and_query,
        (prefix, rest) => {
            let query = target.path_and_query.query();
            let (mark, query) = query.map_or(("", ""), |query| ("?", query));
            PathAndQuery::try_from(format!("{prefix}{rest}{mark}{query}"))
                .map_err(|_| Refusal::Malformed("the rewritten target is malformed"))?
        }
    };
    let fallback = &upstream.plan.fallback;
    Ok(Template {
        method: parts.method,
        path_and_query,
        authority: target.authority,
        dialect,
        body,
        repeatable,
        // A stream that was refused is asked for again, and its request does not come back; one that
        // does come back must not carry one endpoint's fields to another.
        keeps_headers: repeatable
            || fallback.stale.is_some()
            || fallback.upstream.is_some()
            || entry.queued_bytes > 0
            || upstream.may_speak_http2
            || upstream.changes_fields,
        makes_key,
        headers: RefCell::new(parts.headers),
        key: OnceCell::new(),
    })
}

/// What came of a call: the policies' verdict, and where it was made.
struct Made {
    opened: Opened<Head, Failure>,
    upstream: usize,
    /// Whether a provider may have done it, where only one may.
    hold: Option<Rc<Hold>>,
    /// It was counted that a fallback in shadow would have answered.
    would_fall_back: Cell<bool>,
}

impl Made {
    /// Whether a fallback of its upstream may answer. It is counted when it does, by [`fell_back`]; one
    /// in shadow never does, and is counted here, once, however many there are.
    fn is_covered(&self, upstream: &Upstream) -> bool {
        let Some(why) = self.opened.why else {
            return false;
        };
        let is_covered = upstream.policies.covers(why);
        if !is_covered && !self.would_fall_back.replace(true) {
            let _ = upstream.policies.falls_back(why);
        }
        is_covered
    }
}

/// Counts calls that something else has answered.
fn fell_back(exchange: &Exchange, failed: &[Made]) {
    let upstreams = &exchange.local().upstreams;
    for made in failed {
        if let Some(why) = made.opened.why {
            let _ = upstreams[made.upstream].upstream.policies.falls_back(why);
        }
    }
}

async fn forward(mut exchange: Box<Exchange>, mut prepared: Prepared) -> Response<Body> {
    exchange.tries(prepared.trial.take());
    let local = Rc::clone(exchange.local());
    let may_be_queued = local.table.upstreams[prepared.upstream].queued_bytes > 0;
    if may_be_queued && let Some(answer) = Box::pin(queued::behind(&mut exchange, &prepared)).await
    {
        return Box::pin(close(exchange, answer)).await;
    }
    let mut failed: Vec<Made> = Vec::new();
    let (mut at, mut asked) = (prepared.upstream, exchange.began());
    let degrade = local.table.degrade.as_deref();
    loop {
        let upstream = &local.upstreams[at].upstream;
        let hold = Hold::of(upstream, &prepared.template).map(Rc::new);
        let opened = ask(&exchange, &prepared, at, hold.as_ref()).await;
        if let Some(degrade) = degrade {
            let now = Clock::Precise.now();
            noted(&mut exchange, &prepared, &opened, degrade, now.since(asked));
            asked = now;
        }
        let peers = &local.upstreams[at].peers;
        let answered = opened.result.as_ref().ok();
        let peer = match answered.map(|head| Rc::clone(&head.peer)) {
            Some(peer) => Some(peer),
            None => opened.endpoint.and_then(|number| peers.peer(number)),
        };
        exchange.attempted(opened.attempts, peer);
        if failed.is_empty() {
            exchange.called(opened.why, opened.attempts);
        }
        let made = Made {
            opened,
            upstream: at,
            hold,
            would_fall_back: Cell::new(false),
        };
        let Some(why) = made.opened.why else {
            if !failed.is_empty() {
                exchange.because("fallback");
                fell_back(&exchange, &failed);
            }
            return pass(exchange, &prepared, made, !failed.is_empty()).await;
        };
        let entry = &local.table.upstreams[at];
        if let Some(answer) =
            instead::stale(&mut exchange, &prepared, &entry.upstream, (&made, why))
        {
            fell_back(&exchange, &failed);
            return Box::pin(close(exchange, answer)).await;
        }
        let next = entry.instead.filter(|_| {
            may_go_elsewhere(&prepared, &made.opened) && made.is_covered(&entry.upstream)
        });
        failed.push(made);
        match next {
            // The configuration has no cycles; this holds all the same.
            Some(next) if failed.len() < local.upstreams.len() => at = next,
            _ => break,
        }
    }
    if may_be_queued
        && let Some(answer) = Box::pin(queued::instead(&mut exchange, &prepared, &failed)).await
    {
        return Box::pin(close(exchange, answer)).await;
    }
    for (number, made) in failed.iter().enumerate() {
        if let Some(answer) = instead::fixed(&mut exchange, made) {
            fell_back(&exchange, &failed[..=number]);
            return Box::pin(close(exchange, answer)).await;
        }
    }
    // What went wrong first is what the client should hear.
    let first = failed.swap_remove(0);
    Box::pin(fail(exchange, &prepared, first)).await
}

/// Notes a call that was really made: a failed one at once, any other when its answer has ended.
fn noted(
    exchange: &mut Exchange,
    prepared: &Prepared,
    opened: &Opened<Head, Failure>,
    degrade: &Degradation,
    took: Duration,
) {
    let outcome = match opened.why {
        None => return exchange.asked(took),
        Some(Why::Failed(outcome)) => outcome,
        Some(Why::Rejected(rejection))
            if rejection.reason == Reason::Deadline && prepared.deadline_is_clients =>
        {
            Outcome::Ignored
        }
        Some(Why::Rejected(_)) => Outcome::Transient,
    };
    if opened.attempts > 0 {
        degrade.state.record(outcome, took);
    }
}

/// What is answered while a route is switched off: its feature's fixed answer, a stale copy, or
/// that it is.
async fn switched_off(mut exchange: Box<Exchange>, prepared: Prepared) -> Response<Body> {
    let local = Rc::clone(exchange.local());
    let (Some(degrade), Some(off)) = (&local.table.degrade, &prepared.off) else {
        return forward(exchange, prepared).await;
    };
    let dialect = prepared.template.dialect;
    let upstream = &local.table.upstreams[prepared.upstream].upstream;
    let stale = || {
        let (stale, key) = upstream.stale.as_ref().zip(prepared.stale_key.as_ref())?;
        stale.recall(key, &prepared.template.headers.borrow(), exchange.began())
    };
    let (instead, mut answer) = if let Some(answer) = degrade.instead(off.route, dialect) {
        (Instead::Fixed, answer)
    } else if let Some(answer) = stale() {
        (Instead::Stale, answer)
    } else {
        let refusal = degrade.refusal(off.route, &off.mode);
        (Instead::Refused, refusal.answer(dialect))
    };
    exchange.degraded(instead);
    degrade::mark(&mut answer, &off.mode);
    exchange.because("degraded");
    close(exchange, answer).await
}

/// Calls an upstream through its policies.
async fn ask(
    exchange: &Exchange,
    prepared: &Prepared,
    at: usize,
    hold: Option<&Rc<Hold>>,
) -> Opened<Head, Failure> {
    let local = &exchange.local().upstreams[at];
    let template = &prepared.template;
    let (upstream, dialect) = (&local.upstream, template.dialect);
    let worker = exchange.client().worker.index;
    let mut caller = upstream
        .policies
        .caller()
        .repeatable(template.repeatable)
        .tier(prepared.tier)
        .classify(move |result: &Result<Head, Failure>| attempt::judge(upstream, dialect, result));
    match key(exchange, prepared, &upstream.affinity) {
        Key::All | Key::Header(None) => {}
        key => caller = caller.affinity(key),
    }
    let key = upstream
        .limits_rate
        .then(|| key(exchange, prepared, &upstream.rate_key));
    if let Some(key) = &key {
        caller = caller.rate_key(key);
    }
    if let Some(hold) = hold {
        caller = caller.bound_by(hold.binding());
    }
    if let Some(spent) = template.body.spent() {
        caller = caller.repeatable_until(spent);
    }
    if let Some(deadline) = instant_of(prepared.deadline).filter(|_| prepared.deadline < Time::MAX)
    {
        caller = caller.deadline(deadline);
    }
    let opened = caller.open(|attempt| {
        let (local, template) = (Rc::clone(local), Rc::clone(template));
        attempt::make(local, worker, template, attempt, hold.cloned())
    });
    let opened = opened.await;
    if let Some(key) = key {
        exchange.limited(upstream.policies.rate_room(key));
    }
    opened
}

/// What a request is told apart by.
#[derive(Hash)]
pub(crate) enum Key {
    All,
    Client(IpAddr),
    Header(Option<HeaderValue>),
}

fn key(exchange: &Exchange, prepared: &Prepared, counts: &Counts) -> Key {
    let headers = prepared.template.headers.borrow();
    let trusted = &exchange.local().table.gateway.trusted_proxies;
    match counts {
        Counts::Together => Key::All,
        Counts::ByClient => Key::Client(exchange.client().origin.client(&headers, trusted)),
        Counts::ByHeader(name) => Key::Header(headers.get(name).cloned()),
    }
}

/// Whether the request may be made at another upstream, without being made twice.
fn may_go_elsewhere(prepared: &Prepared, opened: &Opened<Head, Failure>) -> bool {
    let unsent = opened.attempts == 0 || opened.why == Some(Why::Failed(Outcome::Unsent));
    (unsent || prepared.template.repeatable) && !prepared.template.is_spent()
}

/// Passes an answer on.
async fn pass(
    mut exchange: Box<Exchange>,
    prepared: &Prepared,
    made: Made,
    elsewhere: bool,
) -> Response<Body> {
    let opened = made.opened;
    let Ok(head) = opened.result else {
        let refusal = no_answer(&exchange, made.upstream);
        return Box::pin(refuse(exchange, &refusal, prepared.template.dialect)).await;
    };
    prepared.template.body.stop_keeping();
    let endpoint = Arc::clone(&head.peer.endpoint);
    if let Some(open) = &opened.open {
        let shard = endpoint.metrics.shard(exchange.client().worker.index);
        shard.head.record(open.took());
    }
    let (mut parts, incoming) = head.response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let response = Response::from_parts(parts, incoming);
        let switched = switch(exchange, prepared, response, opened.open, made.upstream);
        return Box::pin(switched).await;
    }
    let local = Rc::clone(exchange.local());
    let upstream = &local.table.upstreams[made.upstream].upstream;
    if prepared.template.dialect == Dialect::Http {
        parts.status = endpoint.dialect.seen(parts.status);
    }
    let recording = prepared.stale_key.as_ref().filter(|_| opened.why.is_none());
    let recording = recording
        .zip(upstream.stale.as_ref())
        .and_then(|(key, stale)| {
            let asked = prepared.template.headers.borrow();
            stale.record(key, &asked, &parts, exchange.began())
        });
    forward::response(&mut parts);
    if elsewhere {
        degraded(&mut parts.headers, "fallback");
    }
    let outcome = match opened.why {
        Some(Why::Failed(outcome)) => outcome,
        Some(Why::Rejected(_)) | None => Outcome::Success,
    };
    let (deadline, dialect) = (opened.deadline, prepared.template.dialect);
    let answer = Answer {
        first: head.first,
        incoming,
        lease: Some(head.lease),
        open: opened.open,
        outcome,
        deadline: deadline.map(Instant::from_std),
        deadline_is_clients: prepared.deadline_is_clients
            && deadline == instant_of(prepared.deadline),
        dialect,
        has_status: dialect == Dialect::Grpc
            && (parts.status != StatusCode::OK || grpc_code(&parts.headers).is_some()),
        recording,
        exchange: None,
        timer: None,
        over: false,
    };
    exchange.answered(&mut parts);
    let body = Body::Streamed(Box::new(answer)).ending(exchange);
    Response::from_parts(parts, body)
}

/// Both ends change their protocol.
async fn switch(
    mut exchange: Box<Exchange>,
    prepared: &Prepared,
    mut response: Response<Incoming>,
    open: Option<OpenAnswer>,
    upstream: usize,
) -> Response<Body> {
    if !prepared.may_switch {
        // It changed the protocol without being asked.
        let refusal = no_answer(&exchange, upstream);
        return refuse(exchange, &refusal, prepared.template.dialect).await;
    }
    let upgraded = hyper::upgrade::on(&mut response);
    let mut parts = response.into_parts().0;
    let protocol = parts.headers.remove(header::UPGRADE);
    forward::response(&mut parts);
    if let Some(protocol) = protocol {
        parts.headers.insert(header::UPGRADE, protocol);
    }
    parts
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(open) = open {
        open.record(Outcome::Success);
    }
    exchange.judged(Outcome::Success);
    let idle = exchange.local().table.gateway.limits.upgrade_idle_timeout;
    exchange.upgraded();
    let client = Rc::clone(exchange.client());
    client.switches(Tunnel {
        upstream: upgraded,
        idle,
        exchange,
    });
    Response::from_parts(parts, Body::Empty)
}

/// Tells the client why there is no good answer; a bad one of the upstream's own is passed on.
async fn fail(exchange: Box<Exchange>, prepared: &Prepared, made: Made) -> Response<Body> {
    let error = match made.opened.result {
        Ok(_) => return pass(exchange, prepared, made, false).await,
        Err(error) => error,
    };
    let local = Rc::clone(exchange.local());
    let upstream = local.table.upstreams[made.upstream]
        .upstream
        .plan
        .name
        .clone();
    let refusal = match (error, prepared.template.body.fault()) {
        (_, Some(Fault::TooLarge)) => Refusal::BodyTooLarge,
        (_, Some(Fault::Broken)) => Refusal::BodyIncomplete,
        (Error::Inner(Failure::Withheld(refused)), None) => Refusal::Withheld { upstream, refused },
        (Error::Rejected(rejection), None) => Refusal::Rejected {
            upstream,
            rejection,
        },
        (error, None) => Refusal::Unreachable {
            upstream,
            retry_after: error.retry_after(),
        },
    };
    let in_doubt = made.hold.is_some_and(|hold| hold.is_held());
    let refusal = match refusal {
        Refusal::Rejected { .. } | Refusal::Unreachable { .. } if in_doubt => {
            Refusal::InDoubt(Box::new(refusal))
        }
        refusal => refusal,
    };
    refuse(exchange, &refusal, prepared.template.dialect).await
}

fn no_answer(exchange: &Exchange, upstream: usize) -> Refusal {
    let upstream = &exchange.local().table.upstreams[upstream].upstream;
    Refusal::Unreachable {
        upstream: upstream.plan.name.clone(),
        retry_after: None,
    }
}

async fn refuse(
    mut exchange: Box<Exchange>,
    refusal: &Refusal,
    dialect: Dialect,
) -> Response<Body> {
    exchange.because(refusal.reason());
    close(exchange, refusal.answer(dialect)).await
}

/// Sends an answer of the gateway's own.
async fn close(mut exchange: Box<Exchange>, answer: Response<Body>) -> Response<Body> {
    if let Some(body) = exchange.unread() {
        body.discard().await;
    }
    let (mut parts, body) = answer.into_parts();
    exchange.answered(&mut parts);
    Response::from_parts(parts, body.ending(exchange))
}

/// Marks an answer that is not what the upstream would say now.
fn degraded(headers: &mut HeaderMap, mode: &'static str) {
    headers.insert(&headers::X_DEGRADED, HeaderValue::from_static(mode));
}
