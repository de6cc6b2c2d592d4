//! What gRPC statuses mean.

use std::time::Duration;

use outlast_core::outcome::Outcome;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::attempt::Attempt;
use crate::classify::Classify;

/// Judges `Result<_, tonic::Status>`.
///
/// | code | outcome |
/// |---|---|
/// | `UNAVAILABLE`, `DEADLINE_EXCEEDED`, `ABORTED`, `INTERNAL`, `UNKNOWN` | transient |
/// | `RESOURCE_EXHAUSTED` | overload |
/// | `UNIMPLEMENTED`, `DATA_LOSS` | permanent |
/// | `CANCELLED` | ignored |
/// | everything else | success: the dependency did its work |
///
/// A `grpc-retry-pushback-ms` turns a transient code into an overload with that hint; a negative
/// or garbled one says never to retry, and makes it permanent (gRFC A6).
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
    match code {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unknown => match pushback(metadata) {
            Pushback::None => Outcome::Transient,
            Pushback::After(wait) => Outcome::Overload {
                retry_after: Some(wait),
            },
            Pushback::Never => Outcome::Permanent,
        },
        Code::ResourceExhausted => match pushback(metadata) {
            Pushback::None => Outcome::Overload { retry_after: None },
            Pushback::After(wait) => Outcome::Overload {
                retry_after: Some(wait),
            },
            Pushback::Never => Outcome::Permanent,
        },
        Code::Unimplemented | Code::DataLoss => Outcome::Permanent,
        Code::Cancelled => Outcome::Ignored,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unauthenticated => Outcome::Success,
    }
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

enum Pushback {
    None,
    After(Duration),
    Never,
}

fn pushback(metadata: &MetadataMap) -> Pushback {
    let Some(value) = metadata.get("grpc-retry-pushback-ms") else {
        return Pushback::None;
    };
    let millis = value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<i32>().ok());
    match millis.map(u64::try_from) {
        Some(Ok(millis)) => Pushback::After(Duration::from_millis(millis)),
        Some(Err(_)) | None => Pushback::Never,
    }
}

#[cfg(test)]
mod tests {
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
