//! What reqwest's results mean, and how its requests are repeated.

use std::time::SystemTime;

use outlast_core::outcome::Outcome;
use reqwest::{Error, Response};

use crate::classify::Classify;
use crate::http;

/// Judges `Result<reqwest::Response, reqwest::Error>`: responses as
/// [`http::ByStatus`] does. An error in building the request or decoding
/// the answer, or a redirect that leads nowhere, is permanent; every other is transient.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByStatus;

impl Classify<Result<Response, Error>> for ByStatus {
    #[expect(clippy::disallowed_methods, reason = "a Retry-After may be a date")]
    fn classify(&self, result: &Result<Response, Error>) -> Outcome {
        match result {
            Ok(response) => http::outcome(response.status(), response.headers(), SystemTime::now()),
            Err(error) if error.is_builder() || error.is_redirect() || error.is_decode() => {
                Outcome::Permanent
            }
            Err(error) => match error.status() {
                Some(status) => http::outcome(status, &Default::default(), SystemTime::now()),
                None => Outcome::Transient,
            },
        }
    }
}

/// Repeats reqwest's requests that may be repeated (see
/// [`http::is_repeatable`]) and whose body is not a stream, and tells
/// the dependency the deadline of each attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idempotent;

#[cfg(feature = "tower")]
impl crate::Repeat<reqwest::Request> for Idempotent {
    fn copy(&self, request: &reqwest::Request) -> Option<reqwest::Request> {
        if http::is_repeatable(request.method(), request.headers()) {
            request.try_clone()
        } else {
            None
        }
    }

    fn prepare(&self, request: &mut reqwest::Request, attempt: &crate::Attempt) {
        http::prepare(request.headers_mut(), attempt);
    }
}
