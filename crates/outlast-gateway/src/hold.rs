//! One request's part in the law that no two providers do the same work.
//!
//! A hold exists for a request to an exclusive upstream that changes something and may be made
//! twice. Its key is the client's, or the one that the gateway makes; without either the law holds
//! within the call alone. Before an attempt is sent the key is claimed for its endpoint and the
//! call bound to it; when the journal says that the key is free again, so is the call.

use std::sync::Arc;

use http::HeaderValue;
use outlast::outcome::Outcome;
use outlast::{Attempt, Binding};
use outlast_config::plan::Meaning;

use crate::attempt::{Failure, Head, Template, judge};
use crate::journal::{Bounds, Claim, Journal, Refused, Verdict};
use crate::refusal::Refusal;
use crate::table::{Exclusive, Upstream};

/// The hold of one call.
#[derive(Debug)]
pub(crate) struct Hold {
    journal: Arc<Journal>,
    bounds: Bounds,
    /// The key that the client gave.
    given: Option<Arc<str>>,
    binding: Binding,
}

impl Hold {
    /// The hold of a request at an upstream, if it needs one.
    pub(crate) fn of(upstream: &Upstream, template: &Template) -> Option<Hold> {
        let exclusive = upstream.exclusive.as_ref()?;
        if template.method.is_safe() {
            return None;
        }
        let headers = template.headers.borrow();
        let given = headers.get(&upstream.idempotency_key).map(text);
        if given.is_none() && !template.repeatable {
            return None;
        }
        let Exclusive { journal, bounds } = exclusive;
        let journal = if given.is_some() || template.makes_key {
            Arc::clone(journal)
        } else {
            Arc::new(Journal::of_one_call())
        };
        let holder = given.as_ref().and_then(|key| journal.holder(key, *bounds));
        let members = upstream.policies.members();
        let holder = holder.and_then(|name| members.number(&name));
        Some(Hold {
            binding: Binding::new(holder),
            bounds: *bounds,
            journal,
            given,
        })
    }

    /// Where the call's attempts may go.
    pub(crate) fn binding(&self) -> Binding {
        self.binding.clone()
    }

    /// Whether a provider may have done the work, or has.
    pub(crate) fn is_held(&self) -> bool {
        let known = |key| self.journal.holder(key, self.bounds).is_some();
        self.binding.endpoint().is_some() || self.given.as_ref().is_some_and(|key| known(key))
    }

    /// An attempt is about to be made: nothing may be sent before this has returned.
    pub(crate) async fn claim(
        &self,
        upstream: &Upstream,
        template: &Template,
        attempt: &Attempt,
    ) -> Result<Claim, Refused> {
        let at = attempt.endpoint_index();
        let key = match &self.given {
            Some(key) => Arc::clone(key),
            None => text(template.made_key(attempt)),
        };
        let directory = upstream.members.latest();
        let endpoint = directory.named(attempt.endpoint());
        let provider = &endpoint.expect("an order of providers never changes").name;
        let claim = self.journal.begin(&key, provider, self.bounds).await?;
        self.binding.bind(at);
        Ok(claim)
    }

    /// The attempt has ended. That the work is done is known for good when this has returned, and
    /// may be told only then.
    pub(crate) async fn settle(
        &self,
        claim: Claim,
        upstream: &Upstream,
        template: &Template,
        made: &Result<Head, Failure>,
    ) {
        if claim.end(verdict(upstream, template, made)).await {
            self.binding.release();
        }
    }
}

/// What an attempt says about its key. Only what the endpoint's own `outcomes` call a failure is a
/// definite one: a status alone does not tell whether the work was done.
fn verdict(upstream: &Upstream, template: &Template, made: &Result<Head, Failure>) -> Verdict {
    let outcome = judge(upstream, template.dialect, made);
    match (outcome, made) {
        (Outcome::Unsent, _) | (_, Err(Failure::Spent | Failure::Withheld(_))) => Verdict::Untried,
        (Outcome::Success | Outcome::Permanent, _) => Verdict::Served,
        (Outcome::Transient | Outcome::Overload { .. }, Ok(head)) => {
            match head.peer.endpoint.dialect.means(head.response.status()) {
                Some(Meaning::Transient) => Verdict::Refused,
                Some(Meaning::Overload) => Verdict::Untried,
                _ => Verdict::Unknown,
            }
        }
        (Outcome::Transient | Outcome::Overload { .. } | Outcome::Ignored, _) => Verdict::Unknown,
    }
}

/// Refuses a key that could not be kept, or that a provider could read in two ways.
pub(crate) fn check_key(upstream: &Upstream, headers: &http::HeaderMap) -> Result<(), Refusal> {
    if upstream.exclusive.is_none() {
        return Ok(());
    }
    let mut keys = headers.get_all(&upstream.idempotency_key).iter();
    let too_long = keys.next().is_some_and(|key| key.len() > LONGEST_KEY);
    if too_long {
        return Err(Refusal::Malformed("the idempotency key is too long"));
    }
    if keys.next().is_some() {
        return Err(Refusal::Malformed("there are two idempotency keys"));
    }
    Ok(())
}

/// A key as text. Keys that differ in what is no text, or far behind, are held to be the same,
/// which is safe.
fn text(key: &HeaderValue) -> Arc<str> {
    let bytes = key.as_bytes();
    let kept = &bytes[..bytes.len().min(LONGEST_KEY)];
    Arc::from(String::from_utf8_lossy(kept))
}

/// In bytes, as providers have it.
const LONGEST_KEY: usize = 255;
