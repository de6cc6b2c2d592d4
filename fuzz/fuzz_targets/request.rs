//! Any bytes of a client are answered, or their connection is closed; the gateway goes on.

#![no_main]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::Duration;

use outlast_gateway::{Gateway, Options};

static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let text = "
gateway: { listen: '127.0.0.1:0', admin: off, workers: 1 }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://127.0.0.1:9, fallback: { static: {} } } }
";
    let plan = outlast_config::parse("fuzz.yaml", text)
        .expect("a good plan")
        .into_plan();
    Gateway::start(plan, Options::default()).expect("a gateway that starts")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let connect = || TcpStream::connect(GATEWAY.addresses()[0]).expect("it accepts");
    let mut stream = connect();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("it is not zero");
    let _ = stream.read_to_end(&mut Vec::new());
    let mut stream = connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
});
