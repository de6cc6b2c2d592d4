//! Ready-made probes, to be given to [`Health::check`](super::Health::check).
//!
//! Each makes a connection of its own and closes it, so it tells whether a newcomer would be
//! served, and not whether an old connection still lives. For a pool's own view, or for TLS, give
//! a closure with your client.
//!
//! Every address is looked up anew for each probe, so it follows DNS. Nothing they read is
//! unbounded, and no error shows a password.

mod blocking;
mod breaker;
#[cfg(unix)]
mod disk;
#[cfg(feature = "grpc-health")]
mod grpc;
mod http;
#[cfg(feature = "postgres")]
mod postgres;
mod redis;
mod target;

use std::pin::Pin;

pub use self::breaker::upstream;
#[cfg(unix)]
pub use self::disk::disk;
#[cfg(feature = "grpc-health")]
pub use self::grpc::grpc;
pub use self::http::http;
#[cfg(feature = "postgres")]
pub use self::postgres::postgres;
pub use self::redis::redis;
pub use self::target::tcp;

/// One probe: nothing, or why it failed.
pub type Probing = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// An error with what caused it, in one line.
#[cfg(any(feature = "grpc-health", feature = "postgres"))]
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    // Bounded, should an error be its own cause.
    for _ in 0..8 {
        let Some(cause) = source else { break };
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
