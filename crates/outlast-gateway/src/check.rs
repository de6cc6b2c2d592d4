//! Asking the endpoints of an upstream how they are.
//!
//! When to ask, and what an answer changes, is the library's; here a probe is made, over the
//! connections that requests go over. The first worker asks for all of them: the others see what it
//! learns, because health belongs to the upstream they share.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{HOST, HeaderValue};
use http::{Method, Request, Uri, Version};
use http_body::Body;
use outlast::health::probe;
use outlast_config::plan::ActiveCheck;
use tokio::task::JoinHandle;

use crate::peers::{Peer, Peers};
use crate::replay::Source;
use crate::table::Upstream;

/// The task that asks; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Checking(JoinHandle<()>);

impl Drop for Checking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Checking {
    /// Begins to ask; `None` if the plan does not want it.
    pub(crate) fn start(upstream: &Arc<Upstream>, peers: &Rc<Peers>) -> Option<Checking> {
        let check = upstream.plan.check.clone()?;
        let peers = Rc::clone(peers);
        let checks = upstream.policies.check_endpoints(move |probe| {
            let (check, peer) = (check.clone(), peers.peer(probe.endpoint_index()));
            async move {
                match peer {
                    Some(peer) => is_well(&check, &peer).await,
                    None => false,
                }
            }
        });
        let checks = checks.expect("who plans a check configures it");
        Some(Checking(tokio::task::spawn_local(async move {
            match checks.await {}
        })))
    }
}

async fn is_well(check: &ActiveCheck, peer: &Rc<Peer>) -> bool {
    match check {
        ActiveCheck::Connect => peer.pool.reaches().await,
        ActiveCheck::Http(path) => answers(path, peer).await.unwrap_or(false),
        ActiveCheck::Grpc(service) => match probe::grpc(&peer.endpoint.place(), service) {
            Ok(probe) => probe().await.is_ok(),
            Err(_) => false,
        },
    }
}

/// Whether a GET is answered with 2xx; `None` if it is not answered.
async fn answers(path: &str, peer: &Rc<Peer>) -> Option<bool> {
    let endpoint = &peer.endpoint;
    let connection = peer.pool.connection(false).await.ok()?;
    let (body, version) = (Source::empty(), connection.version());
    let mut request = Request::new(body.copy());
    *request.method_mut() = Method::GET;
    *request.version_mut() = version;
    let authority = endpoint.authority();
    *request.uri_mut() = match version {
        Version::HTTP_2 => format!("{}{path}", endpoint.origin()).parse().ok()?,
        _ => path.parse::<Uri>().ok()?,
    };
    if version != Version::HTTP_2 {
        let host = HeaderValue::from_str(&authority).ok()?;
        request.headers_mut().insert(HOST, host);
    }
    let mut head = connection.send(request, peer, &body).await.ok()?;
    let well = head.response.status().is_success();
    let answer = head.response.body_mut();
    let mut read = 0;
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *answer).poll_frame(cx)).await;
        match frame {
            None => break,
            Some(Err(_)) => return Some(false),
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len()),
        }
        if read > MOST_READ {
            // Its connection is closed instead of read to the end.
            return Some(well);
        }
    }
    head.lease.give_back();
    Some(well)
}

/// Health documents are short.
const MOST_READ: usize = 64 * 1024;
