//! What a policy file means, once every line of it has been understood.
//!
//! A [`Plan`] is complete and consistent: defaults are filled in, names are resolved to positions,
//! and every upstream's policies have been built once to see that they can work. Gateway,
//! simulator and drills take it as it is; none of them reads YAML.

mod queue;
mod saga;
mod store;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use outlast_core::balance;
use outlast_core::degrade::{self, Condition};
use outlast_core::ratio::Ratio;
pub use outlast_core::tier::Tier;

pub use self::queue::{Queue, QueueKey};
pub use self::saga::{
    Saga, SagaFinds, SagaFound, SagaMeaning, SagaQuery, SagaRequest, SagaStatus, SagaStep,
    SagaUnknown, Sagas,
};
pub use self::store::{Postgres, Store};

/// A whole policy file.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the gateway listens, and what it allows.
    pub gateway: Gateway,
    /// In the order of the file: the first route that matches is taken.
    pub routes: Vec<Route>,
    /// In the order of the file.
    pub upstreams: Vec<Upstream>,
    /// What the gateway says of itself.
    pub health: Health,
    /// Which features are given up under stress. Default: none.
    pub degrade: Option<Degrade>,
    /// Where what must not be lost is kept.
    pub store: Store,
    /// Business actions over several upstreams. Default: none.
    pub sagas: Option<Sagas>,
    /// Where requests wait for their upstream. Default: none.
    pub queues: Vec<Queue>,
}

/// How the gateway listens, and what it allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// Where clients connect.
    pub listen: Vec<Listener>,
    /// Where operators connect. Default `127.0.0.1:9900`; `None` for `admin: off`.
    pub admin: Option<Admin>,
    /// Threads that serve, each with a listening socket of its own. Default: one per processor.
    pub workers: Option<NonZeroUsize>,
    /// Bounds on what clients may send and hold.
    pub limits: Limits,
    /// How long requests in flight may go on when the gateway stops. Default 30 s.
    pub drain: Duration,
    /// Proxies whose `X-Forwarded-*` and `Forwarded` are believed. Default: none; what others send
    /// is replaced.
    pub trusted_proxies: Vec<Network>,
    /// The share of requests that is logged. Failed ones (5xx, rejections) always are. Default 0:
    /// only those.
    pub access_log: Ratio,
}

/// One listening address.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Default: clear text, HTTP/1.1 and HTTP/2 with prior knowledge.
    pub tls: Option<ServerTls>,
}

/// What a TLS server shows and asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate chain, PEM. Read anew on reload.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Roots of client certificates, PEM. Default: clients need none.
    pub client_roots: Option<PathBuf>,
    /// Whether a client without a certificate is turned away. Default: yes, if there are roots.
    pub client_certificate_required: bool,
}

/// The operators' listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    /// What an operator has to show to change something. An address that is not loopback needs
    /// one.
    pub token: Option<Secret>,
}

/// What the gateway says of itself.
#[derive(Clone, Debug)]
pub struct Health {
    /// Dependencies that are probed in the background.
    pub checks: Vec<HealthCheck>,
    /// Whether each upstream with breakers is an informative check. Default: yes.
    pub upstreams: bool,
    /// A worker that has run nothing for so long is stuck. Default 10 s.
    pub stuck_after: Duration,
    /// The section in a canonical form: on reload, checks of an equal one go on.
    pub source: String,
}

/// A dependency that is probed.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// Its name.
    pub name: String,
    /// How it is probed.
    pub probe: Probe,
    /// When it is probed, and what that means.
    pub config: outlast_core::health::Config,
}

/// How a dependency is probed.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// `HOST:PORT` takes a connection.
    Tcp(String),
    /// A GET of this URL is answered with 2xx.
    Http(String),
    /// The gRPC health service says that it is serving.
    Grpc {
        /// `http://HOST:PORT`.
        url: String,
        /// Empty for the server as a whole.
        service: String,
    },
    /// Redis at this URL answers PING.
    Redis(Setting),
    /// PostgreSQL with these connection settings answers `SELECT 1`.
    Postgres(Setting),
    /// A file system has room.
    Disk {
        /// A path on it.
        path: PathBuf,
        /// The share that has to be free. Default 10 %.
        free: Ratio,
    },
}

/// A setting that may have a secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// It has none, and stands in the file.
    Plain(String),
    /// It is kept elsewhere.
    Kept(Secret),
}

/// Where a secret is kept; never in the file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

/// Bounds on what clients may send and hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections at once, over all workers. Default 20,000.
    pub connections: usize,
    /// Streams at once per HTTP/2 connection. Default 100.
    pub streams: u32,
    /// Header fields of a request. Default 100.
    pub headers: usize,
    /// Bytes of a request's head. Default 64 KiB.
    pub header_bytes: usize,
    /// Bytes of a request target. Default 8 KiB.
    pub uri_bytes: usize,
    /// Bytes of a request's body. Default: no bound.
    pub body_bytes: Option<u64>,
    /// How long a client may take for a request's head, and for a TLS handshake. Default 10 s.
    pub header_timeout: Duration,
    /// How long a client may pause within a body that it sends, or that it reads. Default 30 s.
    pub body_timeout: Duration,
    /// How long a connection may lie idle. Default 75 s.
    pub idle_timeout: Duration,
    /// How long an upgraded connection may lie idle. Default 5 min.
    pub upgrade_idle_timeout: Duration,
    /// What to do with header names that have an underscore.
    pub underscores: Underscores,
}

/// Header names with an underscore look like those with a hyphen to CGI-like programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// The header is dropped.
    #[default]
    Drop,
    /// The request is answered with 400.
    Reject,
    /// It is passed on.
    Keep,
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address in it.
    pub address: IpAddr,
    /// The length of the prefix that counts.
    pub prefix: u8,
}

/// Which requests go where, and what is promised to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name in logs and metrics.
    pub name: String,
    /// Which requests take it.
    pub matching: Match,
    /// The position of its upstream in [`Plan::upstreams`].
    pub upstream: usize,
    /// What replaces the literal start of the matched path. Default: nothing.
    pub rewrite: Option<String>,
    /// When a request ends at the latest, counted from its head. Default: that of the gateway,
    /// which is 30 s; `None` for `deadline: none`.
    pub deadline: Option<Duration>,
    /// How critical it is; sent on as `X-Tier`.
    pub tier: Tier,
    /// Which of its requests may be made twice.
    pub repeat: Repeat,
    /// Whether it makes an idempotency key for requests that come without one. Default no.
    pub make_idempotency_key: bool,
    /// Whether it passes protocol upgrades (WebSocket). Default no.
    pub upgrade: bool,
    /// Whether a request goes on, until its deadline, although its client has gone. Default no.
    pub shield: bool,
    /// A new version that takes its traffic over in steps. Default: none.
    pub canary: Option<Canary>,
}

/// A new version of a route's upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// The position of its upstream in [`Plan::upstreams`]; never the route's own.
    pub upstream: usize,
    /// In which steps it gets traffic, and what takes it away again. It has been built once: it
    /// can work.
    pub policy: outlast_core::canary::Config,
    /// What stays with one version. Default: a client's address.
    pub sticky: Sticky,
    /// Everything in the file that shaped it, with the name of the old version, in a canonical
    /// form: with an equal source it keeps its state on reload.
    pub source: String,
}

/// What stays with one version while the share stays the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// Each client's address.
    #[default]
    Client,
    /// Each value of this header, a lower-case name; requests without it go by their client's
    /// address.
    Header(String),
    /// Nothing: each request goes by itself.
    Off,
}

/// Which requests take a route. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Upper-case method names; empty for all.
    pub methods: Vec<String>,
    /// The host, lower case, without port. `None` for any.
    pub host: Option<Host>,
    /// The path. Empty and not open: `/` only.
    pub path: Path,
    /// Header fields that must be there.
    pub headers: Vec<HeaderMatch>,
}

/// A host pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Exactly this one.
    Is(String),
    /// `*.` and this suffix: any name below it, not the suffix itself.
    Below(String),
}

/// A path pattern, by segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// What the path's segments must be, in order.
    pub segments: Vec<Segment>,
    /// Whether anything may follow (`/**`).
    pub open: bool,
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Is(String),
    /// `*`: any one segment.
    Any,
}

/// A header field that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name, lower case.
    pub name: String,
    /// Its exact value; `None` for any (`*`).
    pub value: Option<String>,
}

/// Which requests may be made twice (`retry: safe | always | never` of a route).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeat {
    /// Those with an idempotent method, and those with an idempotency key.
    #[default]
    Safe,
    /// All: the owner of the route says so.
    Always,
    /// None.
    Never,
}

/// One dependency.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// What protects it. It has been built once: it can work.
    pub policies: outlast_core::upstream::Config,
    /// In the order in which the policies number them: those that it begins with, if they are
    /// discovered.
    pub endpoints: Vec<Endpoint>,
    /// Where endpoints come from while the gateway runs. Default: they never change.
    pub discovery: Option<Discovery>,
    /// What is spoken to it.
    pub protocol: Protocol,
    /// What its rate limit counts by. Default: all calls together.
    pub rate_key: RateKey,
    /// Roots and name for `https` endpoints.
    pub tls: ClientTls,
    /// Its connections, kept per worker.
    pub pool: Pool,
    /// How long connecting may take, with the TLS handshake. Default 2 s.
    pub connect_timeout: Duration,
    /// Up to how many bytes a request's body is kept for another attempt. Default 64 KiB.
    pub replay_bytes: usize,
    /// The header that makes a repeated request recognisable. Default `idempotency-key`.
    pub idempotency_key: String,
    /// Statuses that mean something else than usual.
    pub outcomes: Vec<StatusOutcome>,
    /// Whether an idempotency key stays with the endpoint that may have served it. Default: no.
    pub exclusive: Option<Exclusive>,
    /// What answers instead, in this order.
    pub fallback: Fallback,
    /// The name of the queue in [`Plan::queues`] for what no endpoint took. Default: none.
    pub hold: Option<String>,
    /// What `balance: hash` keeps at one endpoint.
    pub affinity: Affinity,
    /// How its endpoints are probed, if they are.
    pub check: Option<ActiveCheck>,
    /// How busy its instances should be. Default 70 %.
    pub target_utilisation: Ratio,
    /// Everything in the file that shaped this upstream, in a canonical form. Two upstreams with
    /// equal sources are the same: on reload it keeps its state.
    pub source: String,
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// Whether it is spoken to by TLS (`https://`).
    pub tls: bool,
    /// A host name or an address.
    pub host: String,
    /// Its port. Default 80 or 443.
    pub port: u16,
    /// What its URL's path puts before every path, without a slash at the end. Default: nothing.
    pub prefix: String,
    /// How much it carries in comparison with the others. Default 1.
    pub weight: u32,
    /// Those of larger numbers are used when the smaller ones are not enough. Default 0.
    pub priority: u8,
    /// Where it is. Default: nowhere in particular.
    pub zone: Option<String>,
    /// How it is spoken to, where that differs from the others.
    pub dialect: Dialect,
    /// The address that its host was found to have. Default: it is looked up for each connection.
    pub address: Option<IpAddr>,
}

impl Endpoint {
    /// As the policies know it. With another URL, or another address, it is another endpoint.
    pub fn described(&self) -> balance::Endpoint {
        let at = self.address.map_or(String::new(), |ip| format!(" at {ip}"));
        let described = balance::Endpoint::new(self.name.as_str())
            .weight(self.weight)
            .priority(self.priority)
            .address(format!("{}{at}", self.url()));
        match &self.zone {
            Some(zone) => described.zone(zone.as_str()),
            None => described,
        }
    }

    /// Its URL, as the file says it.
    pub fn url(&self) -> String {
        let Endpoint {
            host, port, prefix, ..
        } = self;
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{host}:{port}{prefix}")
    }
}

/// Where endpoints come from while the gateway runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Each of [`Upstream::endpoints`] stands for all that its host's name leads to.
    Names(Names),
    /// A JSON file that is looked at again and again.
    File(PathBuf),
    /// Whoever may change something on the admin listener tells them.
    Admin,
}

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// What is asked for.
    pub record: Record,
    /// How often, spread by a tenth both ways. Default 5 s.
    pub every: Duration,
    /// Default: the system's name servers, and its file of hosts.
    pub server: Option<SocketAddr>,
}

/// What is asked of a name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A and AAAA: the addresses of a host.
    Address,
    /// SRV: hosts with ports, priorities and weights, and then their addresses.
    Service,
}

/// How one endpoint is spoken to, and what its answers mean. Default: as the client speaks, and as
/// usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// What becomes of the path.
    pub rewrite: Option<Rewrite>,
    /// Header fields that its requests get, lower-case names.
    pub set: Vec<(String, Setting)>,
    /// Header fields that its requests lose, lower-case names.
    pub remove: Vec<String>,
    /// What its statuses mean; before [`Upstream::outcomes`].
    pub outcomes: Vec<StatusOutcome>,
    /// Which status the client sees instead.
    pub statuses: Vec<StatusChange>,
}

/// What becomes of a path on its way to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// This replaces all of it; the query stays.
    Whole(String),
    /// One start of it is replaced by another.
    Start {
        /// By whole segments.
        from: String,
        /// What stands there instead.
        to: String,
    },
}

/// A status that clients see as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// The first status it holds for.
    pub from: u16,
    /// The last one.
    pub to: u16,
    /// What the client sees.
    pub seen: u16,
}

/// What is remembered of keys that only one endpoint may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusive {
    /// The file that remembers them beyond the process. Default: none.
    pub journal: Option<PathBuf>,
    /// For how long after the last attempt. Default 24 h.
    pub keep: Duration,
    /// How many. Default 100,000.
    pub keys: usize,
}

/// What keeps requests at one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Nothing does.
    #[default]
    None,
    /// The client's address.
    Client,
    /// The value of this header; requests without it go anywhere.
    Header(String),
}

/// How endpoints are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActiveCheck {
    /// They take a connection.
    Connect,
    /// A GET of this path is answered with 2xx.
    Http(String),
    /// The gRPC health service says that this service is serving; empty for the server as a whole.
    Grpc(String),
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 in clear text; over TLS what ALPN agrees on.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in clear text with prior knowledge.
    Http2,
}

/// What a rate limit counts by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RateKey {
    /// All calls together.
    #[default]
    Shared,
    /// Each client's address.
    Client,
    /// Each value of this header, a lower-case name; requests without it together.
    Header(String),
}

/// How a TLS client trusts, and what it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Roots to trust, PEM. Default: the system's.
    pub roots: Option<PathBuf>,
    /// The name that the certificate must have. Default: the endpoint's host.
    pub server_name: Option<String>,
    /// A certificate of its own and the key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The connections to each endpoint, per worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Idle connections that are kept. Default 64.
    pub idle: usize,
    /// How long one may lie idle. Default 30 s.
    pub idle_timeout: Duration,
    /// How old one may become. Default 10 min.
    pub max_lifetime: Duration,
}

/// What statuses mean, where it is not what they usually mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusOutcome {
    /// The first status it holds for.
    pub from: u16,
    /// The last one.
    pub to: u16,
    /// What it means.
    pub means: Meaning,
}

/// An outcome in a policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The dependency did its work.
    Success,
    /// Another attempt may help.
    Transient,
    /// A definite no.
    Permanent,
    /// It asks for less; Retry-After tells for how long.
    Overload,
    /// It says nothing.
    Ignored,
}

/// What answers when the dependency does not. First what it said before, then another upstream,
/// then a queue, then a fixed answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fallback {
    /// Its own last good answer to the same GET.
    pub stale: Option<Stale>,
    /// The position of another upstream in [`Plan::upstreams`].
    pub upstream: Option<usize>,
    /// The name of a queue in [`Plan::queues`], for requests that change something.
    pub queue: Option<String>,
    /// A fixed answer.
    pub fixed: Option<Answer>,
    /// Whether it only counts what it would replace. Default: it replaces it.
    pub shadow: bool,
}

/// A cache of good answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// How old an answer may be.
    pub max_age: Duration,
    /// How many bytes all answers may take together. Default 64 MiB.
    pub bytes: usize,
    /// How many bytes one answer may take. Default 1 MiB.
    pub entry_bytes: usize,
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status. Default 200.
    pub status: u16,
    /// Its header fields, lower-case names.
    pub headers: Vec<(String, String)>,
    /// Its body. Default: none.
    pub body: String,
}

/// What is served less, and at which signs.
#[derive(Clone, Debug)]
pub struct Degrade {
    /// The same for the core. It has been built once: it can work.
    pub policy: degrade::Config,
    /// How far latencies and errors look back. Default 10 s.
    pub window: Duration,
    /// Of fewer calls in the window nothing is said. Default 20.
    pub min_calls: u32,
    /// `false`: only modes that were forced by hand disable anything. Default `true`.
    pub enforce: bool,
    /// From the mildest to the most severe, in the order of the file.
    pub modes: Vec<Mode>,
    /// In the order of the file, which is that of the policy.
    pub features: Vec<Feature>,
    /// What decides about modes, in a canonical form; what is answered instead is not part of it.
    /// With equal sources the mode stays on reload.
    pub source: String,
}

/// A named way to serve less.
#[derive(Clone, Debug, PartialEq)]
pub struct Mode {
    /// Its name.
    pub name: String,
    /// Any one of these begins it. Empty: only a hand does.
    pub when: Vec<Condition>,
    /// For how long. Default 10 s.
    pub after: Duration,
    /// All of these end it, as given or as derived from `when`.
    pub off: Vec<Condition>,
    /// For how long.
    pub off_after: Duration,
    /// Tiers that are off.
    pub disable: Vec<Tier>,
    /// Features that are off by their names.
    pub switch_off: Vec<String>,
    /// Whether stale copies stand in for failed calls.
    pub serve_stale: bool,
}

/// Something that users can do without for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// How critical it is. Default important.
    pub tier: Tier,
    /// The positions of its routes in [`Plan::routes`]. A route belongs to one feature at most.
    pub routes: Vec<usize>,
    /// What is answered while it is off. Default: a stale copy, or 503.
    pub instead: Option<Answer>,
}
