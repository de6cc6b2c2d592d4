//! A real name server (dnsmasq) that knows the names of a test.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

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
