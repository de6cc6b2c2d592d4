//! Real servers on free ports, which end with the test.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use outlast::health::probe::Probing;

/// A `redis-server`.
pub struct Redis {
    pub port: u16,
    password: Option<&'static str>,
    folder: Folder,
    process: Child,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub async fn start(password: Option<&'static str>) -> Redis {
        let folder = Folder::make("redis");
        let (port, process) = on_a_free_port(|port| Redis::spawn(port, password, &folder));
        let mut redis = Redis {
            port,
            password,
            folder,
            process,
        };
        redis.until_it_answers().await;
        redis
    }

    pub fn url(&self) -> String {
        let login = self.password.map(|password| format!(":{password}@"));
        format!(
            "redis://{}127.0.0.1:{}",
            login.unwrap_or_default(),
            self.port
        )
    }

    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on its port and waits until it answers.
    pub async fn start_again(&mut self) {
        self.process = Redis::spawn(self.port, self.password, &self.folder);
        self.until_it_answers().await;
    }

    fn spawn(port: u16, password: Option<&str>, folder: &Folder) -> Child {
        let port = port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--requirepass", password.unwrap_or("")]);
        command.current_dir(&folder.0);
        start(&mut command, "redis-server")
    }

    async fn until_it_answers(&mut self) {
        let ping = outlast::health::probe::redis(&self.url()).unwrap();
        until_it_answers("redis-server", &mut self.process, &ping).await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A PostgreSQL with the user `shop`. It refuses to run as root, so a test that does starts it as
/// the user `postgres`, who comes with its package.
pub struct Postgres {
    pub port: u16,
    process: Child,
    _folder: Folder,
}

pub const PASSWORD: &str = "orange-7";

impl Postgres {
    /// Starts one and waits until it answers.
    pub async fn start() -> Postgres {
        let binaries = postgres_binaries();
        let folder = Folder::make("postgres");
        let (data, secret) = (folder.0.join("data"), folder.0.join("password"));
        fs::write(&secret, PASSWORD).unwrap();
        if is_root() {
            run(Command::new("chown")
                .args(["-R", "postgres"])
                .arg(&folder.0));
        }
        let mut make = as_postgres(&binaries.join("initdb"));
        make.args(["--no-sync", "--auth=scram-sha-256", "--username=shop"]);
        make.arg("--pwfile").arg(&secret).arg("--pgdata").arg(&data);
        run(make.current_dir(&folder.0));
        let (port, process) = on_a_free_port(|port| {
            let mut serve = as_postgres(&binaries.join("postgres"));
            serve.arg("-D").arg(&data).args(["-p", &port.to_string()]);
            serve.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
            serve.args(["-c", "unix_socket_directories="]);
            start(serve.current_dir(&folder.0), "postgres")
        });
        let mut postgres = Postgres {
            port,
            process,
            _folder: folder,
        };
        let select = outlast::health::probe::postgres(&postgres.url(PASSWORD)).unwrap();
        until_it_answers("postgres", &mut postgres.process, &select).await;
        postgres
    }

    pub fn url(&self, password: &str) -> String {
        format!(
            "postgres://shop:{password}@127.0.0.1:{}/postgres",
            self.port
        )
    }

    /// Ends it, with its sessions.
    pub fn stop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let process = self.process.id().to_string();
            let _ = Command::new("kill").args(["-INT", &process]).status();
            let _ = self.process.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where the newest installed version keeps its programs: on Debian they are not on the path.
fn postgres_binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let folders = versions.map(|version| version.unwrap().path().join("bin"));
    let mut folders: Vec<_> = folders
        .filter(|path| path.join("initdb").exists())
        .collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path).filter(|path| path.join("initdb").exists()));
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
    let own = Command::new("id").arg("-u").output().unwrap();
    own.stdout == b"0\n"
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn start(command: &mut Command, program: &str) -> Child {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.unwrap_or_else(|error| {
        let package = if program == "postgres" { "postgresql" } else { program };
        panic!("{program} could not be started ({error}); this test needs it: apt-get install {package}")
    })
}

/// Somebody else may take a port between its choice and its use; then another one is tried.
fn on_a_free_port(mut spawn: impl FnMut(u16) -> Child) -> (u16, Child) {
    for _ in 0..5 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut child = spawn(port);
        let end = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return (port, child);
            }
            assert!(Instant::now() < end, "nobody listens on {port}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    panic!("no server could be started on a free port");
}

async fn until_it_answers(name: &str, process: &mut Child, probe: &impl Fn() -> Probing) {
    let end = Instant::now() + Duration::from_secs(60);
    while let Err(error) = probe().await {
        assert_eq!(process.try_wait().unwrap(), None, "{name} has ended");
        assert!(Instant::now() < end, "{name} does not answer: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A folder that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn make(name: &str) -> Folder {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("outlast-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
