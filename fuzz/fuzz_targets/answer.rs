//! Any bytes of an upstream become an answer, or an error that the client understands.

#![no_main]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use outlast_gateway::{Gateway, Options};

static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let answer = ANSWER.lock().expect("nobody panics with it").clone();
            let _ = stream.write_all(&answer);
        }
    });
    let text = format!(
        "
gateway: {{ listen: '127.0.0.1:0', admin: off, workers: 1, deadline: 2s }}
routes: {{ all: {{ match: /**, upstream: up }} }}
upstreams: {{ up: {{ endpoints: http://{address} }} }}
"
    );
    let plan = outlast_config::parse("fuzz.yaml", &text)
        .expect("a good plan")
        .into_plan();
    Gateway::start(plan, Options::default()).expect("a gateway that starts")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let address = GATEWAY.addresses()[0];
    *ANSWER.lock().expect("nobody panics with it") = bytes.to_vec();
    let mut stream = TcpStream::connect(address).expect("it accepts");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("it is not zero");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    // Nothing at all is what a client sees of an answer whose body breaks off at once.
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
});
