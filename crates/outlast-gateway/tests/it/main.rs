//! The gateway with real clients and real upstreams, on real sockets.

mod admin;
mod clients;
mod fallbacks;
mod forwarding;
mod lifecycle;
mod limits;
mod outages;
mod repeats;
mod support;
