//! A PostgreSQL on a free port that ends with the test, and a wire to it that fails.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A server with the user `shop`. It refuses to run as root, so a test that does starts it as the
/// user `postgres`, who comes with its package.
pub struct Server {
    pub port: u16,
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts one and waits until it answers.
    pub fn start() -> Server {
        Server::start_with(|_| {})
    }

    /// Starts one whose folder of data was changed before.
    pub fn start_with(change: impl Fn(&Path)) -> Server {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let mut make = as_postgres(&programs().join("initdb"));
        make.args(["--no-sync", "--auth=trust", "--username=shop", "--pgdata"]);
        run(make
            .arg(folder.path().join("data"))
            .current_dir(folder.path()));
        let data = folder.path().join("data");
        change(&data);
        if is_root() {
            run(Command::new("chown").arg("-R").arg("postgres").arg(data));
        }
        // Somebody else may take a port between its choice and its use.
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let mut process = spawn(folder.path(), port);
            if answers(&mut process, port) {
                return Server {
                    port,
                    process,
                    folder,
                };
            }
        }
        panic!("no server could be started on a free port");
    }

    /// Makes a database; how to get there.
    pub fn database(&self, name: &str) -> String {
        let settings = |name: &str| format!("postgres://shop@127.0.0.1:{}/{name}", self.port);
        self.query(
            &settings("postgres"),
            &format!("CREATE DATABASE \"{name}\""),
        );
        settings(name)
    }

    /// What a query says, as text.
    pub fn query(&self, settings: &str, text: &str) -> String {
        let mut psql = Command::new(programs().join("psql"));
        let output = psql.args(["-qAtX", settings, "-c", text]).output().unwrap();
        assert!(output.status.success(), "{text}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Ends it at once, as a crash does, and starts it again.
    pub fn crash(&mut self) {
        self.stop();
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            self.process = spawn(self.folder.path(), self.port);
            if answers(&mut self.process, self.port) {
                return;
            }
            assert!(Instant::now() < end, "it does not start again");
        }
    }

    fn stop(&mut self) {
        let process = self.process.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &process]).status();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(folder: &Path, port: u16) -> Child {
    let mut serve = as_postgres(&programs().join("postgres"));
    serve
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string()]);
    // Processes die in these tests, and machines do not.
    serve.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    serve.args(["-c", "unix_socket_directories="]);
    serve
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    serve.spawn().unwrap()
}

/// `false` if it ends.
fn answers(process: &mut Child, port: u16) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    let ready = || {
        let mut ask = Command::new(programs().join("pg_isready"));
        ask.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
        ask.status().unwrap().success()
    };
    while process.try_wait().unwrap().is_none() {
        if ready() {
            return true;
        }
        assert!(Instant::now() < end, "nobody answers on {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Where the newest installed version keeps its programs: on Debian they are not on the path.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let folders = versions.map(|version| version.unwrap().path().join("bin"));
    let mut folders: Vec<_> = folders
        .filter(|path| path.join("initdb").exists())
        .collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if folders.is_empty() {
        folders.extend(std::env::split_paths(&path).filter(|path| path.join("initdb").exists()));
    }
    folders.sort();
    let missing = "PostgreSQL is not installed; this test needs it: apt-get install postgresql";
    folders.pop().expect(missing)
}

fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    // It becomes the program, so that its process can be ended.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(program);
    command
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Takes connections and passes them on.
pub struct Wire {
    pub port: u16,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    /// The next answer is not passed on, and its connection is cut.
    swallows: AtomicBool,
    swallowed: AtomicU32,
    /// Nothing is passed on.
    holds: AtomicBool,
}

impl Wire {
    pub fn to(server: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = Arc::new(Faults::default());
        let shared = Arc::clone(&faults);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Ok(other) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                let (back, forth) = (stream.try_clone().unwrap(), other.try_clone().unwrap());
                let (one, two) = (Arc::clone(&shared), Arc::clone(&shared));
                std::thread::spawn(move || pass(stream, other, &one, false));
                std::thread::spawn(move || pass(forth, back, &two, true));
            }
        });
        Wire { port, faults }
    }

    /// Cuts the next connection on which an answer comes, without passing it on.
    pub fn swallow(&self) {
        self.faults.swallows.store(true, Ordering::SeqCst);
    }

    pub fn swallowed(&self) -> u32 {
        self.faults.swallowed.load(Ordering::SeqCst)
    }

    pub fn hold_up(&self, holds: bool) {
        self.faults.holds.store(holds, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, faults: &Faults, is_answer: bool) {
    let mut bytes = [0; 16384];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        while faults.holds.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let swallows = is_answer && read > 0 && faults.swallows.swap(false, Ordering::SeqCst);
        if swallows {
            faults.swallowed.fetch_add(1, Ordering::SeqCst);
        }
        if read == 0 || swallows || to.write_all(&bytes[..read]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
