//! What benchmarks need of the system: processes that end with them, what these use, ports that are free.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark waits for other processes"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A process that ends with the benchmark.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        // Asked, not killed: some have to end their own processes, or have something to write.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("{command:?} could not be started: {error}")),
    }
}

/// User and system time of a process and its children, in seconds.
pub(crate) fn processor_time(id: u32) -> f64 {
    let ticks = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let times: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
        // The state, which is a letter, is left out: utime is field 14 of the manual.
        times.get(10).copied().unwrap_or(0.0) + times.get(11).copied().unwrap_or(0.0)
    };
    tree(id).into_iter().map(ticks).sum::<f64>() / TICKS_PER_SECOND
}

/// The same on all Linux systems of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident megabytes of a process and its children.
pub(crate) fn resident(id: u32) -> f64 {
    let pages = |id: u32| {
        let statm = fs::read_to_string(format!("/proc/{id}/statm")).unwrap_or_default();
        statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    tree(id).into_iter().map(pages).sum::<f64>() * 4096.0 / 1e6
}

/// The same, with a part only of what several of them share.
pub(crate) fn proportional(id: u32) -> f64 {
    let kilobytes = |id: u32| {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    tree(id).into_iter().map(kilobytes).sum::<f64>() * 1024.0 / 1e6
}

fn tree(id: u32) -> Vec<u32> {
    // Any thread may have started a process.
    let threads = fs::read_dir(format!("/proc/{id}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let children = threads.flat_map(|thread| {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace().map(str::to_owned);
        children.collect::<Vec<_>>()
    });
    let children = children.filter_map(|child| child.parse().ok());
    children.flat_map(tree).chain([id]).collect()
}

/// Ports that nobody listens on.
pub(crate) fn free_ports<const MANY: usize>() -> Result<[u16; MANY], String> {
    let mut held = Vec::new();
    let mut ports = [0; MANY];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        *port = listener
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        held.push(listener);
    }
    Ok(ports)
}

/// Asks again and again until the answer is 2xx; its body.
pub(crate) fn asked(
    port: u16,
    method: &str,
    path: &str,
    body: &str,
    within: Duration,
) -> Result<String, String> {
    let end = Instant::now() + within;
    loop {
        let answer = ask(port, method, path, body);
        match answer {
            Ok((200..=299, text)) => return Ok(text),
            other if Instant::now() > end => {
                return Err(format!(
                    "{method} {path} on port {port} does not succeed: {other:?}"
                ));
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn ask(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.unwrap_or(0), body.to_owned()))
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What the machine is.
pub(crate) fn processor_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown", |line| line.trim_start_matches(['\t', ' ', ':']))
        .to_owned()
}

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(15);
