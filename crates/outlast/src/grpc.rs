//! What gRPC statuses mean.

use outlast_core::outcome::Outcome;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::attempt::Attempt;
use crate::classify::Classify;
use crate::headers;

/// Judges `Result<_, tonic::Status>` by [`grpc_outcome`](crate::http::grpc_outcome).
#[derive(Clone, Copy, Debug, Default)]
pub struct ByCode;

impl<T> Classify<Result<T, Status>> for ByCode {
    fn classify(&self, result: &Result<T, Status>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(status) => outcome(status.code(), status.metadata()),
        }
    }
}

/// Judges the `http::Response` that a tonic channel returns to a layer: by its HTTP status, and
/// by the `grpc-status` of a response without a body ("trailers-only"), which is how servers
/// fail at once. A status that comes behind a body is only seen by the client's stub.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResponse;

impl<B, E> Classify<Result<http::Response<B>, E>> for ByResponse {
    fn classify(&self, result: &Result<http::Response<B>, E>) -> Outcome {
        match result {
            Ok(response) => match Status::from_header_map(response.headers()) {
                Some(status) => outcome(status.code(), status.metadata()),
                None => crate::http::ByStatus.classify(result),
            },
            Err(_) => Outcome::Transient,
        }
    }
}

/// What a status with this code and metadata means.
pub fn outcome(code: Code, metadata: &MetadataMap) -> Outcome {
    let pushback = metadata.as_ref().get(&headers::GRPC_RETRY_PUSHBACK);
    crate::http::grpc_outcome(code as u32, pushback)
}

/// A request for one attempt: with its timeout, so that tonic sends `grpc-timeout`, and for a
/// repeated one the number of those before (gRFC A6).
pub fn request<T>(message: T, attempt: &Attempt) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(remaining) = attempt.remaining() {
        request.set_timeout(remaining);
    }
    if attempt.number() > 1 {
        let before = (attempt.number() - 1).to_string();
        let value = before.parse().expect("a number is a metadata value");
        request
            .metadata_mut()
            .insert("grpc-previous-rpc-attempts", value);
    }
    request
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judge(code: Code, pushback: Option<&str>) -> Outcome {
        let mut metadata = MetadataMap::new();
        if let Some(text) = pushback {
            metadata.insert("grpc-retry-pushback-ms", text.parse().unwrap());
        }
        outcome(code, &metadata)
    }

    #[test]
    fn codes_mean_what_the_table_says() {
        assert_eq!(judge(Code::Unavailable, None), Outcome::Transient);
        assert_eq!(judge(Code::NotFound, None), Outcome::Success);
        assert_eq!(judge(Code::Unimplemented, None), Outcome::Permanent);
        assert_eq!(judge(Code::Cancelled, None), Outcome::Ignored);
        assert_eq!(
            judge(Code::ResourceExhausted, None),
            Outcome::Overload { retry_after: None }
        );
    }

    #[test]
    fn pushback_is_an_exact_delay_or_a_stop() {
        let after = Outcome::Overload {
            retry_after: Some(Duration::from_millis(500)),
        };
        assert_eq!(judge(Code::Unavailable, Some("500")), after);
        assert_eq!(judge(Code::ResourceExhausted, Some("500")), after);
        for text in ["-1", "x", "1.5", "99999999999"] {
            assert_eq!(
                judge(Code::Unavailable, Some(text)),
                Outcome::Permanent,
                "{text}"
            );
        }
        assert_eq!(judge(Code::NotFound, Some("500")), Outcome::Success);
    }

    #[test]
    fn trailers_only_responses_are_judged_by_their_grpc_status() {
        let response = http::Response::builder()
            .header("grpc-status", "14")
            .body(())
            .unwrap();
        let result: Result<_, ()> = Ok(response);
        assert_eq!(ByResponse.classify(&result), Outcome::Transient);
        let result: Result<_, ()> = Ok(http::Response::new(()));
        assert_eq!(ByResponse.classify(&result), Outcome::Success);
    }
}
