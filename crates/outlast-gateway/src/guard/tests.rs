//! The guards by themselves (`http1`, `http2`), and in front of hyper (`server`).

mod http1;
mod http2;
mod server;
