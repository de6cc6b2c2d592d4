//! A real name server (dnsmasq) that knows the names of a test.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use crate::support::{free_address, wait_until};

/// A name server; it ends with the test.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    folder: TempDir,
    services: Vec<String>,
    process: Child,
}

impl NameServer {
    /// One that knows these hosts (`ADDRESS NAME`), and services (`NAME,HOST,PORT,PRIORITY,WEIGHT`).
    pub(crate) fn start(hosts: &[&str], services: &[String]) -> NameServer {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let services = services.to_vec();
        write_hosts(&folder, hosts);
        let process = spawn(address, &folder, &services);
        let server = NameServer {
            address,
            folder,
            services,
            process,
        };
        server.until_it_listens();
        server
    }

    /// From now on it knows these hosts.
    pub(crate) fn knows(&self, hosts: &[&str]) {
        write_hosts(&self.folder, hosts);
        let process = self.process.id().to_string();
        let told = Command::new("kill").args(["-HUP", &process]).status();
        assert!(told.unwrap().success());
    }

    pub(crate) fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after it was stopped.
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(self.address, &self.folder, &self.services);
        self.until_it_listens();
    }

    fn until_it_listens(&self) {
        wait_until("the name server listens", || {
            std::net::TcpStream::connect(self.address).is_ok()
        });
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two hosts behind one service, `one.test` and `two.test` at 127.0.0.1, and a name server that may
/// fail to tell the address of the second: dnsmasq cannot be made to.
pub(crate) struct Forgetful {
    pub(crate) address: SocketAddr,
    forgets: Arc<AtomicBool>,
}

impl Forgetful {
    /// Serves until the process ends; each host has a port of its own.
    pub(crate) fn start(ports: [u16; 2]) -> Forgetful {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let forgets = Arc::new(AtomicBool::new(false));
        let fails = Arc::clone(&forgets);
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                let answer = answer(&query[..length], ports, fails.load(Ordering::Relaxed));
                socket.send_to(&answer, client).unwrap();
            }
        });
        Forgetful { address, forgets }
    }

    /// From now on whether the second host has an IPv4 address is a question that fails.
    pub(crate) fn forgets(&self) {
        self.forgets.store(true, Ordering::Relaxed);
    }
}

/// RFC 1035, 4.1: the header, the question as it came, and the records.
fn answer(query: &[u8], ports: [u16; 2], forgets: bool) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let name = query[12..end].to_ascii_lowercase();
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let is_second = name.starts_with(b"\x03two");
    let (mut records, mut code) = (Vec::new(), 0);
    match kind {
        1 if is_second && forgets => code = 2,
        1 => records.push(vec![127, 0, 0, 1]),
        33 => {
            for (host, port) in [b"one", b"two"].into_iter().zip(ports) {
                let mut record = vec![0, 10, 0, 10];
                record.extend(port.to_be_bytes());
                record.extend([&[3], &host[..], b"\x04test\0"].concat());
                records.push(record);
            }
        }
        _ => {}
    }
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    answer.extend(&query[12..end + 4]);
    for record in records {
        // A reference to the question's name, the type, the class, a time to live and the data.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 1]);
        answer.extend((record.len() as u16).to_be_bytes());
        answer.extend(record);
    }
    answer
}

fn write_hosts(folder: &TempDir, hosts: &[&str]) {
    // In one step, so that no half of it is read.
    let next = folder.path().join("next");
    fs::write(&next, hosts.join("\n") + "\n").unwrap();
    fs::rename(next, folder.path().join("hosts")).unwrap();
}

fn spawn(address: SocketAddr, folder: &TempDir, services: &[String]) -> Child {
    let mut command = Command::new("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file",
    ]);
    command.args([
        "--no-resolv",
        "--no-hosts",
        "--no-poll",
        "--bind-interfaces",
    ]);
    command.args(["--cache-size=0", "--local=/test/", "--user=", "--group="]);
    command.arg(format!("--listen-address={}", address.ip()));
    command.arg(format!("--port={}", address.port()));
    command.arg(format!(
        "--addn-hosts={}",
        folder.path().join("hosts").display()
    ));
    command.args(services.iter().map(|one| format!("--srv-host={one}")));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.expect("dnsmasq is needed: apt-get install dnsmasq-base")
}
