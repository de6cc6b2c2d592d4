//! Any value of the headers that tell times is a time or nothing.

#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use outlast::headers;

libfuzzer_sys::fuzz_target!(|values: (&[u8], &[u8])| {
    let (Ok(one), Ok(two)) = (
        HeaderValue::from_bytes(values.0),
        HeaderValue::from_bytes(values.1),
    ) else {
        return;
    };
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut map = HeaderMap::new();
    map.insert(&headers::X_DEADLINE, one.clone());
    map.insert(&headers::X_DEADLINE_SENT, two.clone());
    map.insert(&headers::GRPC_TIMEOUT, two);
    map.insert(http::header::RETRY_AFTER, one.clone());
    if let Some(remaining) = headers::remaining(&map, wall, headers::SKEW) {
        headers::write_deadline(&mut map, remaining.min(Duration::from_secs(1 << 40)), wall);
        assert!(headers::remaining(&map, wall, headers::SKEW).is_some());
    }
    let _ = headers::retry_after(&map, wall);
    let _ = outlast::http::grpc_outcome(14, Some(&one));
});
