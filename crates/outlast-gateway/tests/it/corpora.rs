//! What the fuzz targets are seeded with, and what they found: no bytes of either side stop the
//! gateway.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_gateway::Gateway;

use crate::support::{Upstream, curl, gateway, url};

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let read = |path: std::path::PathBuf| {
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            std::fs::read(path).unwrap(),
        )
    };
    let all: Vec<_> = files.map(read).collect();
    assert!(all.len() > 10, "{} seeds of {target}", all.len());
    all
}

fn send(gateway: &Gateway, bytes: &[u8], ends: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(gateway.addresses()[0]).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // It may be refused before it has been sent.
    let _ = stream.write_all(bytes);
    if ends {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn no_bytes_of_a_client_stop_the_gateway() {
    let upstream = Upstream::start();
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, workers: 1 }
routes: { all: { match: /**, upstream: up, upgrade: true } }
upstreams: { up: { endpoints: http://{} } }
",
        &[upstream.address],
    );
    for (name, bytes) in corpus("request") {
        for end in [bytes.len(), bytes.len() / 2, bytes.len().min(1)] {
            send(&gateway, &bytes[..end], true);
        }
        assert_eq!(curl(&[&url(&gateway, "/")]).status, 200, "after {name}");
    }
}

#[test]
fn no_bytes_of_an_upstream_stop_the_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&answer);
    // It ends with the process: nobody waits for it.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&said.lock().unwrap());
        }
    });
    let gateway = gateway(
        "
gateway: { listen: 127.0.0.1:0, admin: off, workers: 1, deadline: 3s }
routes: { all: { match: /**, upstream: up } }
upstreams: { up: { endpoints: http://{} } }
",
        &[address],
    );
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    for (name, bytes) in corpus("answer") {
        *answer.lock().unwrap() = bytes;
        // Nothing at all is what a client sees of an answer whose body breaks off at once.
        let told = send(&gateway, request, false);
        let is_http = told.is_empty() || told.starts_with(b"HTTP/1.1 ");
        assert!(is_http, "{name}: {}", String::from_utf8_lossy(&told));
        *answer.lock().unwrap() = good.clone();
        let told = send(&gateway, request, false);
        assert!(told.starts_with(b"HTTP/1.1 200"), "after {name}");
    }
}
