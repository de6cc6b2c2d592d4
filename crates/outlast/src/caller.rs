//! Settings for single calls.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use outlast_core::call::Request;
use outlast_core::tier::Tier;
use outlast_core::time::Time;

use crate::affinity;
use crate::attempt::KeySource;
use crate::blocking;
use crate::classify::{ByResult, Classify};
use crate::clock::time_of;
use crate::deadline::{Entered, current_time};
use crate::error::Error;
use crate::seed::{IdempotencyKey, Seed};
use crate::stale::{Answer, Stale};
use crate::upstream::Upstream;

/// An upstream with settings for the calls made through it. Cheap to make, cheap to clone.
///
/// ```
/// # use std::time::Duration;
/// # use outlast::{Config, Upstream, outcome::Outcome};
/// # let db = Upstream::new(Config::standard("db"))?;
/// let found = db
///     .caller()
///     .within(Duration::from_millis(200))
///     .classify(|result: &Result<Option<u32>, &str>| match result {
///         Ok(_) => Outcome::Success,
///         Err("no such table") => Outcome::Permanent,
///         Err(_) => Outcome::Transient,
///     })
///     .call_blocking(|_attempt| Ok(Some(7)));
/// assert_eq!(found, Ok(Some(7)));
/// # Ok::<(), outlast::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Caller<'a, C> {
    upstream: &'a Upstream,
    classify: C,
    options: Options,
}

/// The settings themselves.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    deadline: Time,
    within: Option<Duration>,
    repeatable: bool,
    rate_key: u64,
    tier: Tier,
    affinity: Option<u64>,
    idempotency_key: Option<IdempotencyKey>,
    /// Once set, the call may not be repeated.
    #[cfg(feature = "tokio")]
    pub(crate) spent: Option<Arc<AtomicBool>>,
    #[cfg(feature = "tokio")]
    pub(crate) binding: Option<crate::Binding>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            deadline: Time::MAX,
            within: None,
            repeatable: true,
            rate_key: 0,
            tier: Tier::default(),
            affinity: None,
            idempotency_key: None,
            #[cfg(feature = "tokio")]
            spent: None,
            #[cfg(feature = "tokio")]
            binding: None,
        }
    }
}

impl Options {
    /// The machine's request, and where its key comes from. The current deadline is inherited.
    #[inline]
    pub(crate) fn request(&self, now: Time) -> (Request, KeySource) {
        let own = self
            .within
            .map_or(self.deadline, |within| self.deadline.min(now + within));
        let seed = Seed::draw();
        let mut request = Request::new(seed.call)
            .deadline(own.min(current_time()))
            .repeatable(self.repeatable)
            .key(self.rate_key)
            .tier(self.tier);
        if let Some(affinity) = self.affinity {
            request = request.affinity(affinity);
        }
        let key = match &self.idempotency_key {
            None => KeySource::Made(seed),
            Some(key) => KeySource::Given(key.clone()),
        };
        (request, key)
    }

    /// Whether making the call twice does no harm.
    #[cfg(feature = "tower")]
    pub(crate) fn repeatable(mut self, repeatable: bool) -> Options {
        self.repeatable = repeatable;
        self
    }
}

/// What a limit per key knows a key by.
pub(crate) fn hash_of_rate_key(key: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

impl<'a> Caller<'a, ByResult> {
    pub(crate) fn new(upstream: &'a Upstream) -> Caller<'a, ByResult> {
        Caller {
            upstream,
            classify: ByResult,
            options: Options::default(),
        }
    }
}

impl<'a, C> Caller<'a, C> {
    /// Calls end this long after they begin. The sooner of all deadlines counts: this one, the
    /// current one and the upstream's.
    pub fn within(mut self, limit: Duration) -> Caller<'a, C> {
        self.options.within = Some(limit);
        self
    }

    /// Calls end at this instant.
    pub fn deadline(mut self, deadline: Instant) -> Caller<'a, C> {
        self.options.deadline = time_of(deadline);
        self
    }

    /// Whether making a call twice does no harm. If not, there is one attempt: no retry, no
    /// hedge, no failover. Default `true`.
    pub fn repeatable(mut self, repeatable: bool) -> Caller<'a, C> {
        self.options.repeatable = repeatable;
        self
    }

    /// Once `spent` is set, the call may not be repeated any more, although it began as one that
    /// may: a body that was streamed is gone. It is looked at when an attempt has failed. Default:
    /// none.
    #[cfg(feature = "tokio")]
    pub fn repeatable_until(mut self, spent: Arc<AtomicBool>) -> Caller<'a, C> {
        self.options.spent = Some(spent);
        self
    }

    /// Attempts go where `binding` says, whenever it says so: for work that two providers must not
    /// both do. Its owner binds it before an attempt sends anything, and releases it when that
    /// endpoint has definitely refused. Default: to any endpoint.
    #[cfg(feature = "tokio")]
    pub fn bound_by(mut self, binding: crate::Binding) -> Caller<'a, C> {
        self.options.binding = Some(binding);
        self
    }

    /// What a rate limit per key counts by: a tenant, a client's address.
    pub fn rate_key(mut self, key: impl Hash) -> Caller<'a, C> {
        self.options.rate_key = hash_of_rate_key(key);
        self
    }

    /// How much the call matters when not all can be served: what a shedder or a throttle refuses
    /// first. Default [`Tier::Important`].
    pub fn tier(mut self, tier: Tier) -> Caller<'a, C> {
        self.options.tier = tier;
        self
    }

    /// What should meet the same endpoint again, where endpoints are chosen by hash
    /// ([`balance::Kind::Hash`](crate::balance::Kind::Hash)): a user, a session, a cache key. The
    /// hash is the same in every process, whatever version of the library or the compiler built it,
    /// as long as the key hashes the same bytes (numbers do on machines of one byte order). Default:
    /// none.
    pub fn affinity(mut self, key: impl Hash) -> Caller<'a, C> {
        self.options.affinity = Some(affinity::hash(key));
        self
    }

    /// The idempotency key of the call, if the caller has one. Default: a random one per call.
    pub fn idempotency_key(mut self, key: impl Into<Arc<str>>) -> Caller<'a, C> {
        self.options.idempotency_key = Some(IdempotencyKey::given(key.into()));
        self
    }

    /// What results mean. Default: `Ok` is a success, `Err` a transient failure.
    pub fn classify<D>(self, classify: D) -> Caller<'a, D> {
        Caller {
            upstream: self.upstream,
            classify,
            options: self.options,
        }
    }

    /// Calls the dependency through all policies; see [`Upstream::call`](crate::Upstream::call).
    #[cfg(feature = "tokio")]
    pub fn call<F, Fut, T, E>(self, attempt: F) -> crate::Calling<'a, F, Fut, T, E, C>
    where
        F: FnMut(crate::Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classify<Result<T, E>>,
    {
        crate::Calling::new(&self.upstream.inner, attempt, self.classify, self.options)
    }

    /// As [`Caller::call`], for answers that are read after the call has ended: a response whose
    /// body streams. When a result is judged a success, or permanent, its attempt stays open, with
    /// its seat, until [`OpenAnswer::record`](crate::OpenAnswer::record) says how it ended.
    ///
    /// ```
    /// # use outlast::{Config, Upstream, outcome::Outcome};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let files = Upstream::new(Config::standard("files"))?;
    /// let opened = files.caller().open(|_attempt| async { Ok::<_, &str>("the head") }).await;
    /// let answer = opened.open.expect("it was a success");
    /// // The rest is read; then, or when it broke off:
    /// answer.record(Outcome::Success);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub fn open<F, Fut, T, E>(self, attempt: F) -> crate::Opening<'a, F, Fut, T, E, C>
    where
        F: FnMut(crate::Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classify<Result<T, E>>,
    {
        crate::Opening::new(self.upstream, attempt, self.classify, self.options)
    }

    /// Calls the dependency through all policies, each attempt on a thread of `pool`; see
    /// [`Pool::call`](crate::Pool::call).
    ///
    /// # Panics
    /// If the pool is another upstream's.
    #[cfg(feature = "tokio")]
    pub fn call_on<F, T, E>(self, pool: &crate::Pool, attempt: F) -> crate::PoolCall<F, T, E, C>
    where
        F: Fn(crate::Attempt) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: Classify<Result<T, E>>,
    {
        assert!(
            pool.belongs_to(&self.upstream.inner),
            "the pool belongs to another upstream"
        );
        pool.run(attempt, self.classify, self.options)
    }

    /// Calls the dependency on the current thread; see
    /// [`Upstream::call_blocking`](crate::Upstream::call_blocking).
    ///
    /// # Errors
    /// A policy's rejection, or the error of the last attempt.
    pub fn call_blocking<F, T, E>(self, mut attempt: F) -> Result<T, Error<E>>
    where
        F: FnMut(crate::Attempt) -> Result<T, E>,
        C: Classify<Result<T, E>>,
    {
        blocking::run(
            &self.upstream.inner,
            &self.options,
            &self.classify,
            &mut attempt,
        )
        .result
    }

    /// As [`Caller::call_blocking`]; when it ends without an answer, `fallback` is told why and
    /// may give one, within the call's deadline, which is current while it runs.
    ///
    /// # Errors
    /// As [`Caller::call_blocking`], and [`Error::Fallback`].
    pub fn call_blocking_or<F, T, E, G>(self, mut attempt: F, fallback: G) -> Result<T, Error<E>>
    where
        F: FnMut(crate::Attempt) -> Result<T, E>,
        C: Classify<Result<T, E>>,
        G: FnOnce(crate::fallback::Why) -> Result<T, E>,
    {
        let ending = blocking::run(
            &self.upstream.inner,
            &self.options,
            &self.classify,
            &mut attempt,
        );
        match ending.why {
            Some(why) if self.upstream.inner.core.falls_back(why) => {
                let deadline = ending.deadline.min(current_time());
                let _entered = Entered::new(deadline);
                ending.replace(fallback(why))
            }
            _ => ending.result,
        }
    }

    /// As [`Caller::call_blocking`]; remembers good answers in `cache` under `key`, and answers
    /// with the last one when the call ends without an answer, if it is not too old.
    ///
    /// # Errors
    /// As [`Caller::call_blocking`], when nothing is remembered.
    pub fn call_blocking_or_stale<F, T, E, K>(
        self,
        mut attempt: F,
        cache: &Stale<K, T>,
        key: K,
    ) -> Result<Answer<T>, Error<E>>
    where
        F: FnMut(crate::Attempt) -> Result<T, E>,
        C: Classify<Result<T, E>>,
        K: Hash + Eq,
        T: Clone,
    {
        if let Some((value, age)) = cache.fresh(&key, self.upstream.inner.clock.now()) {
            return Ok(Answer::Cached { value, age });
        }
        let ending = blocking::run(
            &self.upstream.inner,
            &self.options,
            &self.classify,
            &mut attempt,
        );
        ending.or_stale(&self.upstream.inner, cache, key)
    }
}
