//! A worker's connections to the endpoints of an upstream, by their numbers.
//!
//! An attempt knows its endpoint by a number. Where endpoints never change the number is a place in
//! a list; others are looked up, and whoever is not known yet is taken from what all workers share.
//! A peer that has left is dropped here, and ends with the last answer that comes from it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use outlast::Clock;

use crate::members::Endpoint;
use crate::pool::Pool;
use crate::table::Upstream;

/// An endpoint with this worker's connections to it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) number: usize,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) pool: Pool,
}

/// The endpoints that this worker knows.
#[derive(Debug)]
pub(crate) struct Peers {
    upstream: Arc<Upstream>,
    /// By ascending numbers.
    known: RefCell<Vec<Rc<Peer>>>,
    /// Which membership was followed last, and how many endpoints it had.
    seen: Cell<(u64, usize)>,
}

impl Peers {
    pub(crate) fn new(upstream: Arc<Upstream>) -> Peers {
        let peers = Peers {
            upstream,
            known: RefCell::default(),
            seen: Cell::new((u64::MAX, 0)),
        };
        peers.follow();
        peers
    }

    /// The endpoint with this number; `None` if it left too long ago.
    pub(crate) fn peer(&self, number: usize) -> Option<Rc<Peer>> {
        if let Some(peer) = self.known(number) {
            return Some(peer);
        }
        self.follow();
        self.known(number).or_else(|| {
            let directory = self.upstream.members.latest();
            let endpoint = directory.find(number, Clock::Precise.now())?;
            Some(self.meet(number, endpoint))
        })
    }

    /// Closes what has been idle for too long; how many connections are left.
    pub(crate) fn sweep(&self) -> usize {
        self.follow();
        let known = self.known.borrow();
        known.iter().for_each(|peer| peer.pool.sweep());
        known.iter().map(|peer| peer.pool.size()).sum()
    }

    fn known(&self, number: usize) -> Option<Rc<Peer>> {
        let known = self.known.borrow();
        let is_it = |peer: &&Rc<Peer>| peer.number == number;
        let at_home = known.get(number).filter(is_it);
        let peer = at_home.or_else(|| {
            let at = known.binary_search_by_key(&number, |peer| peer.number);
            known.get(at.ok()?)
        });
        peer.cloned()
    }

    /// Learns who has come, and forgets who has left for good.
    fn follow(&self) {
        let version = self.upstream.policies.version();
        // Those who have left are known for a while longer than they are members.
        if self.seen.get() == (version, self.known.borrow().len()) {
            return;
        }
        let directory = self.upstream.members.latest();
        let now = Clock::Precise.now();
        let mut known = self.known.borrow_mut();
        known.retain(|peer| directory.find(peer.number, now).is_some());
        drop(known);
        for (number, endpoint) in &directory.endpoints {
            if self.known(*number).is_none() {
                self.meet(*number, endpoint);
            }
        }
        self.seen.set((version, directory.endpoints.len()));
    }

    fn meet(&self, number: usize, endpoint: &Arc<Endpoint>) -> Rc<Peer> {
        let plan = &self.upstream.plan;
        let pool = Pool::new(endpoint.dial.clone(), plan.protocol, plan.pool.clone());
        let peer = Rc::new(Peer {
            number,
            endpoint: Arc::clone(endpoint),
            pool,
        });
        let mut known = self.known.borrow_mut();
        let at = known.partition_point(|peer| peer.number < number);
        known.insert(at, Rc::clone(&peer));
        peer
    }
}
