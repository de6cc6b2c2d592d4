//! A PostgreSQL with its defaults: every commit is on the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::system::{STARTS, System, data_in, spawn, words};
use crate::process::{free_ports, succeed};

/// Two runners on one server, each with its part of the sagas.
pub(super) fn system(folder: &Path) -> Result<System, String> {
    let data = data_in(folder)?;
    let programs = programs()?;
    if is_root() {
        // It refuses to run as root; the user comes with its package.
        succeed(Command::new("chown").arg("postgres").arg(&data))?;
    }
    let cluster = data.join("cluster");
    let mut make = as_postgres(&programs.join("initdb"));
    make.args(["--auth=trust", "--username=shop", "--pgdata"]);
    make.arg(&cluster).current_dir(&data);
    succeed(make.stdout(std::process::Stdio::null()))?;
    let [port] = free_ports()?;
    let mut serve = as_postgres(&programs.join("postgres"));
    serve
        .arg("-D")
        .arg(&cluster)
        .args(["-p", &port.to_string()]);
    serve.args([
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "unix_socket_directories=",
    ]);
    let server = spawn(folder, &mut serve)?;
    answers(&programs, port)?;
    let url = format!("postgres://shop@127.0.0.1:{port}/postgres");
    let runner = |name: &str| words(&["shared", &url, name]);
    // Without its log, of which it keeps as much as it likes.
    let tables = cluster.join("base");
    let loads = vec![runner("first"), runner("second")];
    System::new(vec![server], loads, &tables)
}

fn answers(programs: &Path, port: u16) -> Result<(), String> {
    let mut ask = Command::new(programs.join("pg_isready"));
    let seconds = STARTS.as_secs();
    ask.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
    for _ in 0..seconds * 50 {
        if ask.status().is_ok_and(|status| status.success()) {
            return Ok(());
        }
        super::rest(20);
    }
    Err(format!("PostgreSQL does not answer on port {port}"))
}

/// Where the newest installed version keeps its programs: on Debian they are not on the path.
fn programs() -> Result<PathBuf, String> {
    let versions = fs::read_dir("/usr/lib/postgresql");
    let versions = versions.into_iter().flatten().flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path)
        .chain(folders)
        .filter(|folder| NEEDED.iter().all(|name| folder.join(name).exists()))
        .collect();
    folders.sort();
    let missing = "PostgreSQL is not installed: apt-get install postgresql";
    folders.pop().ok_or(missing.to_owned())
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
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout == b"0\n")
}

const NEEDED: [&str; 3] = ["initdb", "pg_isready", "postgres"];
