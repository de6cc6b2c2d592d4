//! Processes under load, and clients that load them.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wait_until;

/// A process that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command, address: SocketAddr) -> Process {
        let process = Process(command.stdin(Stdio::null()).spawn().unwrap());
        wait_until("it listens", || TcpStream::connect(address).is_ok());
        process
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway with this policy file.
pub(crate) fn start_gateway(folder: &Path, plan: &str, address: SocketAddr) -> Process {
    std::fs::write(folder.join("outlast.yaml"), plan).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outlast"));
    command
        .args(["serve", "outlast.yaml"])
        .current_dir(folder)
        .stderr(File::create(folder.join("log")).unwrap());
    Process::start(&mut command, address)
}

/// Clients over connections that are kept, cheap enough not to be what is overloaded.
pub(crate) struct Clients {
    server: SocketAddr,
    idle: Mutex<Vec<tokio::net::TcpStream>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Clients {
    pub(crate) fn to(server: SocketAddr) -> Clients {
        Clients {
            server,
            idle: Mutex::default(),
        }
    }

    pub(crate) async fn ask(&self, path: &str) -> Option<Answer> {
        let idle = self.idle.lock().unwrap().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => tokio::net::TcpStream::connect(self.server).await.ok()?,
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut read = Vec::with_capacity(1024);
        let (head, body) = loop {
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break (String::from_utf8_lossy(&read[..end]), end + 4);
            }
        };
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let end = body + length.map_or(0, |length| length.parse().unwrap());
        while read.len() < end {
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
        if !head.contains("connection: close") {
            self.idle.lock().unwrap().push(stream);
        }
        Some(Answer {
            status: head[9..12].parse().ok()?,
            body: read.split_off(body),
        })
    }
}
