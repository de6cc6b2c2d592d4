//! What a proxy must refuse, and what it must not pass on: raw bytes against a real gateway on real
//! sockets, with an upstream that records every request it gets.
//!
//! Each vector says what the client has to see and how many requests the upstream may have seen.
//! They are the shapes that Envoy, nginx, HAProxy and pingora were tried with; each of those fails
//! some.

#![allow(
    clippy::disallowed_methods,
    reason = "tests are drivers: they wait for conditions"
)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod forwarding;
mod framing;
mod http2;
mod wire;

use std::net::SocketAddr;

use outlast_gateway::{Gateway, Options};
use wire::{Exchange, Upstream};

/// A gateway in front of a recording upstream.
struct Bench {
    gateway: Gateway,
    upstream: Upstream,
}

impl Bench {
    /// The upstream answers these paths with these bytes, then closes the connection; other paths
    /// with 200 and the path itself.
    fn start(replies: &'static [(&'static str, &'static str)]) -> Self {
        let upstream = Upstream::start(replies);
        let file = format!(
            r#"
gateway: {{ listen: "127.0.0.1:0", admin: off, workers: 1 }}
routes:
  sockets: {{ match: GET /ws/**, upstream: main, upgrade: true }}
  all: {{ match: /**, upstream: main }}
upstreams:
  main: {{ endpoints: {{ one: "http://{}" }} }}
"#,
            upstream.address,
        );
        let plan = outlast_config::parse("security.yaml", &file).expect("the plan is good");
        let gateway =
            Gateway::start(plan.into_plan(), Options::default()).expect("the gateway starts");
        Bench { gateway, upstream }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.addresses()[0]
    }

    /// Sends these bytes, and reads until the gateway closes the connection.
    fn exchange(&self, input: impl AsRef<[u8]>) -> Exchange {
        wire::exchange(self.address(), input.as_ref())
    }
}

/// What a client sends, and what has to come of it.
struct Vector {
    name: String,
    input: Vec<u8>,
    /// The status of each response; any of those in its list.
    statuses: Vec<&'static [u16]>,
    /// How many complete requests the upstream gets.
    upstream: usize,
}

impl Vector {
    fn new(
        name: impl Into<String>,
        input: impl AsRef<[u8]>,
        statuses: &[&'static [u16]],
        upstream: usize,
    ) -> Self {
        let (name, input) = (name.into(), input.as_ref().to_vec());
        Vector {
            name,
            input,
            statuses: statuses.to_vec(),
            upstream,
        }
    }
}

/// Runs all vectors, and says of each what is wrong with it. Every connection has to be closed by
/// the gateway.
#[track_caller]
fn check(bench: &Bench, vectors: &[Vector]) {
    let mut wrong = Vec::new();
    for vector in vectors {
        bench.upstream.take();
        let exchange = bench.exchange(&vector.input);
        let statuses: Vec<_> = exchange
            .responses
            .iter()
            .map(|response| response.status)
            .collect();
        let is_expected = statuses.len() == vector.statuses.len()
            && statuses
                .iter()
                .zip(&vector.statuses)
                .all(|(status, any)| any.contains(status));
        let seen = bench.upstream.take();
        if !is_expected || !exchange.closed || seen.len() != vector.upstream {
            wrong.push(format!(
                "{}: answered {statuses:?} (expected {:?}), closed: {}, upstream got {} (expected \
                 {}): {seen:?}",
                vector.name,
                vector.statuses,
                exchange.closed,
                seen.len(),
                vector.upstream,
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
}
