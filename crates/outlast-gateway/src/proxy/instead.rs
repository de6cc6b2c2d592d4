//! What is answered instead of an upstream that failed: what it said before, or something fixed.

use std::rc::Rc;

use http::Response;
use outlast::fallback::Why;

use super::{Made, Prepared, degraded, fell_back};
use crate::answer::Body;
use crate::degrade;
use crate::exchange::Exchange;
use crate::metrics::Instead;
use crate::table::Upstream;

/// What the upstream said before.
pub(super) fn stale(
    exchange: &mut Exchange,
    prepared: &Prepared,
    upstream: &Upstream,
    (made, why): (&Made, Why),
) -> Option<Response<Body>> {
    let (stale, key) = upstream.stale.as_ref().zip(prepared.stale_key.as_ref())?;
    let asked = prepared.template.headers.borrow();
    let mut answer = stale.recall(key, &asked, exchange.began())?;
    if made.is_covered(upstream) {
        fell_back(exchange, std::slice::from_ref(made));
    } else {
        let local = Rc::clone(exchange.local());
        let degrade = local.table.degrade.as_ref()?;
        let mode = degrade.mode().filter(|_| degrade.serves_stale(why))?;
        exchange.degraded(Instead::Stale);
        degrade::mark(&mut answer, mode);
    }
    exchange.because("stale");
    Some(answer)
}

/// A fixed answer instead of a failed upstream's.
pub(super) fn fixed(exchange: &mut Exchange, made: &Made) -> Option<Response<Body>> {
    let local = Rc::clone(exchange.local());
    let upstream = &local.table.upstreams[made.upstream].upstream;
    let fixed = upstream.fixed.as_ref()?;
    if !made.is_covered(upstream) {
        return None;
    }
    exchange.because("static");
    let mut response = fixed.answer();
    degraded(response.headers_mut(), "static");
    Some(response)
}
