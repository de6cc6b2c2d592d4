//! The last good answers of an upstream, for when it has no new one.
//!
//! It is no HTTP cache: nothing is answered from it while the upstream answers. It keeps what a
//! shared cache may keep (RFC 9111, 3) and serve stale (4.2.4): answers to plain GETs, not to those
//! with credentials unless marked `public`, never with cookies, and nothing that forbids it by
//! `no-store`, `private`, `no-cache` or `must-revalidate`. One variant of each target is kept, with
//! the request fields that its `Vary` names.
//!
//! It is bounded in bytes, counted with the keys and heads; the answers least recently used go
//! first. Answers are recorded as they stream by, and kept only when they came to a clean end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, response};
use lru::LruCache;
use outlast::time::Time;
use outlast_config::plan;

use crate::answer::Body;

/// Answers, by what was asked.
#[derive(Debug)]
pub(crate) struct Stale {
    plan: plan::Stale,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    answers: LruCache<Arc<str>, Answer>,
    bytes: usize,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    vary: Vec<(HeaderName, Option<HeaderValue>)>,
    since: Time,
    cost: usize,
}

impl Stale {
    pub(crate) fn new(plan: plan::Stale) -> Stale {
        Stale {
            plan,
            kept: Mutex::new(Kept {
                answers: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }

    /// What a request asks for, if an answer to it may be kept at all.
    pub(crate) fn key(method: &Method, target: &str, headers: &HeaderMap) -> Option<Arc<str>> {
        let plain = *method == Method::GET
            && !headers.contains_key(header::RANGE)
            && !lists(headers, &header::CACHE_CONTROL, &["no-store"]);
        plain.then(|| Arc::from(target))
    }

    /// Begins to record an answer, if it may be kept.
    pub(crate) fn record(
        self: &Arc<Stale>,
        key: &Arc<str>,
        request: &HeaderMap,
        answer: &response::Parts,
        now: Time,
    ) -> Option<Recording> {
        let headers = &answer.headers;
        let may_keep = matches!(answer.status.as_u16(), 200 | 203 | 204 | 301 | 308)
            && !headers.contains_key(header::SET_COOKIE)
            && !lists(headers, &header::CACHE_CONTROL, &FORBIDDING)
            && (!request.contains_key(header::AUTHORIZATION)
                || lists(headers, &header::CACHE_CONTROL, &["public"]));
        if !may_keep {
            return None;
        }
        Some(Recording {
            cache: Arc::clone(self),
            key: Arc::clone(key),
            vary: vary(request, headers)?,
            status: answer.status,
            headers: headers.clone(),
            chunks: Vec::new(),
            size: 0,
            since: now,
        })
    }

    /// The last good answer, marked as stale, if it is not too old.
    pub(crate) fn recall(
        &self,
        key: &Arc<str>,
        request: &HeaderMap,
        now: Time,
    ) -> Option<Response<Body>> {
        let mut kept = self.lock();
        let answer = kept.answers.get(key)?;
        let age = now.since(answer.since);
        if age >= self.plan.max_age {
            kept.remove(key);
            return None;
        }
        let same =
            |(name, value): &(HeaderName, Option<HeaderValue>)| request.get(name) == value.as_ref();
        if !answer.vary.iter().all(same) {
            return None;
        }
        let mut response = Response::new(Body::from(answer.body.clone()));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers.clone();
        drop(kept);
        mark(response.headers_mut(), age);
        Some(response)
    }

    /// How many answers it holds, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let kept = self.lock();
        (kept.answers.len(), kept.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, key: &Arc<str>) {
        if let Some(answer) = self.answers.pop(key) {
            self.bytes -= answer.cost;
        }
    }

    fn insert(&mut self, key: Arc<str>, answer: Answer, most: usize) {
        self.remove(&key);
        self.bytes += answer.cost;
        self.answers.put(key, answer);
        while self.bytes > most {
            match self.answers.pop_lru() {
                Some((_, answer)) => self.bytes -= answer.cost,
                None => break,
            }
        }
    }
}

/// An answer that streams by.
#[derive(Debug)]
pub(crate) struct Recording {
    cache: Arc<Stale>,
    key: Arc<str>,
    vary: Vec<(HeaderName, Option<HeaderValue>)>,
    status: StatusCode,
    headers: HeaderMap,
    chunks: Vec<Bytes>,
    size: usize,
    since: Time,
}

impl Recording {
    /// Adds a chunk; `false` once the answer is too large to be kept.
    pub(crate) fn add(&mut self, chunk: &Bytes) -> bool {
        self.size += chunk.len();
        self.chunks.push(chunk.clone());
        self.size <= self.cache.plan.entry_bytes
    }

    /// Keeps it: it came to a clean end.
    pub(crate) fn keep(self) {
        let fields = self.headers.iter();
        let head: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_COST)
            .sum();
        // One allocation of its own: a chunk may be a small part of a large buffer.
        let body = Bytes::from(self.chunks.concat());
        let cost = ENTRY_COST + self.key.len() + head + body.len();
        let answer = Answer {
            status: self.status,
            headers: self.headers,
            body,
            vary: self.vary,
            since: self.since,
            cost,
        };
        let most = self.cache.plan.bytes;
        self.cache.lock().insert(self.key, answer, most);
    }
}

/// Directives that forbid to keep an answer, or to serve it without asking.
const FORBIDDING: [&str; 5] = [
    "no-store",
    "private",
    "no-cache",
    "must-revalidate",
    "proxy-revalidate",
];

/// What the map and the head's table take for an answer, about.
const ENTRY_COST: usize = 512;
/// What a header field takes beside its text, about.
const FIELD_COST: usize = 64;

/// Marks a stale answer: its age, RFC 7234's warning that clients still look for, and the mode.
fn mark(headers: &mut HeaderMap, age: Duration) {
    let before = headers
        .get(header::AGE)
        .and_then(|age| age.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or(0);
    headers.insert(header::AGE, age.as_secs().saturating_add(before).into());
    headers.insert(
        header::WARNING,
        HeaderValue::from_static("110 outlast \"Response is Stale\""),
    );
    headers.insert(
        outlast::headers::X_DEGRADED.clone(),
        HeaderValue::from_static("stale"),
    );
}

/// The request's fields that the answer depends on; `None` if it depends on all.
fn vary(request: &HeaderMap, answer: &HeaderMap) -> Option<Vec<(HeaderName, Option<HeaderValue>)>> {
    let values = answer.get_all(header::VARY).iter();
    let names = values
        .flat_map(|value| value.to_str().unwrap_or("*").split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let field = |name: &str| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = request.get(&name).cloned();
        Some((name, value))
    };
    names
        .map(|name| if name == "*" { None } else { field(name) })
        .collect()
}

/// Whether a list field has one of these directives.
fn lists(headers: &HeaderMap, name: &HeaderName, directives: &[&str]) -> bool {
    let values = headers.get_all(name).iter();
    let mut given = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(|part| part.split('=').next().unwrap_or_default().trim());
    given.any(|part| {
        directives
            .iter()
            .any(|directive| part.eq_ignore_ascii_case(directive))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(pair).collect()
    }

    fn cache(bytes: usize) -> Arc<Stale> {
        Arc::new(Stale::new(plan::Stale {
            max_age: Duration::from_secs(60),
            bytes,
            entry_bytes: 1000,
        }))
    }

    fn answer(headers: HeaderMap) -> response::Parts {
        let mut parts = Response::new(()).into_parts().0;
        parts.headers = headers;
        parts
    }

    fn keep(cache: &Arc<Stale>, target: &str, size: usize) {
        let key = Stale::key(&Method::GET, target, &HeaderMap::new()).unwrap();
        let head = answer(HeaderMap::new());
        let mut recording = cache
            .record(&key, &HeaderMap::new(), &head, Time::ZERO)
            .unwrap();
        assert!(recording.add(&Bytes::from(vec![b'x'; size])));
        recording.keep();
    }

    #[test]
    fn what_may_not_be_kept_is_not() {
        let check = |request: &[(&'static str, &'static str)], response, expected: bool| {
            let request = headers(request);
            let key = Stale::key(&Method::GET, "h/", &request);
            let head = answer(headers(response));
            let recorded =
                key.and_then(|key| cache(10_000).record(&key, &request, &head, Time::ZERO));
            assert_eq!(recorded.is_some(), expected, "{request:?} {response:?}");
        };
        check(&[], &[], true);
        check(&[], &[("cache-control", "max-age=60")], true);
        check(&[], &[("cache-control", "max-age=60, No-Store")], false);
        check(&[], &[("cache-control", "private")], false);
        check(&[], &[("cache-control", "must-revalidate")], false);
        check(&[], &[("set-cookie", "a=b")], false);
        check(&[], &[("vary", "*")], false);
        check(&[], &[("vary", "accept")], true);
        check(&[("authorization", "x")], &[], false);
        check(
            &[("authorization", "x")],
            &[("cache-control", "public")],
            true,
        );
        check(&[("cache-control", "no-store")], &[], false);
        check(&[("range", "bytes=0-1")], &[], false);
        assert!(Stale::key(&Method::POST, "h/", &HeaderMap::new()).is_none());
    }

    #[test]
    fn a_stale_answer_says_so_until_it_is_too_old() {
        let cache = cache(10_000);
        keep(&cache, "h/a", 3);
        let key: Arc<str> = Arc::from("h/a");
        let at = |seconds: u64| Time::ZERO + Duration::from_secs(seconds);
        let stale = cache.recall(&key, &HeaderMap::new(), at(7)).unwrap();
        assert_eq!(stale.headers()[header::AGE], "7");
        assert_eq!(stale.headers()["x-degraded"], "stale");
        assert!(cache.recall(&key, &HeaderMap::new(), at(60)).is_none());
        assert_eq!(cache.size(), (0, 0), "what is too old is forgotten");
    }

    #[test]
    fn one_variant_is_kept() {
        let cache = cache(10_000);
        let key: Arc<str> = Arc::from("h/a");
        let german = headers(&[("accept-language", "de")]);
        let head = answer(headers(&[("vary", "Accept-Language")]));
        cache
            .record(&key, &german, &head, Time::ZERO)
            .unwrap()
            .keep();
        assert!(cache.recall(&key, &german, Time::ZERO).is_some());
        assert!(cache.recall(&key, &HeaderMap::new(), Time::ZERO).is_none());
    }

    #[test]
    fn it_is_bounded_in_bytes_whatever_comes() {
        let most = 5_000;
        let cache = cache(most);
        for number in 0..100 {
            keep(&cache, &format!("h/{number}"), 400);
            assert!(cache.size().1 <= most);
        }
        let (answers, bytes) = cache.size();
        assert_eq!(answers, 5, "{bytes}");
        keep(&cache, "h/99", 10);
        assert_eq!(cache.size().0, 5, "an answer replaces its former self");
        let key: Arc<str> = Arc::from("big");
        let head = answer(HeaderMap::new());
        let mut recording = cache
            .record(&key, &HeaderMap::new(), &head, Time::ZERO)
            .unwrap();
        assert!(!recording.add(&Bytes::from(vec![0; 1001])));
    }
}
