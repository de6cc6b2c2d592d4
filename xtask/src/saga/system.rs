//! What is measured: an engine with all its processes, on new files, and how load is put on it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{peers, postgres};
use crate::process::{Running, asked, free_ports, succeed};
use crate::root;

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Inside,
    Front,
    Gateway,
    Shared,
    Restate,
    FewPartitions,
    Temporal,
}

impl Kind {
    pub(super) const ALL: [Kind; 7] = [
        Kind::Inside,
        Kind::Front,
        Kind::Gateway,
        Kind::Shared,
        Kind::Restate,
        Kind::FewPartitions,
        Kind::Temporal,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Inside => "Outlast in process, SQLite",
            Kind::Front => "Outlast behind HTTP, steps in process, SQLite",
            Kind::Gateway => "`outlast serve`, steps over HTTP, SQLite",
            Kind::Shared => "Outlast in process, PostgreSQL, two runners",
            Kind::Restate => "Restate, 24 partitions (default)",
            Kind::FewPartitions => "Restate, 4 partitions",
            Kind::Temporal => "Temporal dev server, local activities",
        }
    }

    /// How many sagas at once. Two runners cannot share one saga.
    pub(super) fn concurrencies(self) -> &'static [usize] {
        match self {
            Kind::Shared => &[16, 64],
            _ => &[1, 16, 64],
        }
    }

    /// Starts it in an empty folder, and waits until it works.
    pub(super) fn start(self, folder: &Path) -> Result<System, String> {
        match self {
            Kind::Inside => inside(folder),
            Kind::Front => front(folder),
            Kind::Gateway => gateway(folder),
            Kind::Shared => postgres::system(folder),
            Kind::Restate => peers::restate(folder, 24),
            Kind::FewPartitions => peers::restate(folder, 4),
            Kind::Temporal => peers::temporal(folder),
        }
    }
}

/// An engine that runs.
pub(super) struct System {
    /// Its processes, but for those that put load on it. They end in this order.
    pub(super) processes: Vec<Running>,
    /// How to put load on it: so many processes at once, each with its part.
    pub(super) loads: Vec<Vec<String>>,
    /// What it writes is in here.
    pub(super) data: PathBuf,
    /// Bytes of that before the first saga.
    pub(super) empty: u64,
    /// An SQLite file that a process of ours may have left with its log.
    pub(super) file: Option<PathBuf>,
}

impl System {
    /// With what it has written so far taken for what it needs without a saga.
    pub(super) fn new(
        processes: Vec<Running>,
        loads: Vec<Vec<String>>,
        data: &Path,
    ) -> Result<System, String> {
        Ok(System {
            processes,
            loads,
            data: data.to_owned(),
            empty: size(data)?,
            file: None,
        })
    }

    /// Ends it; bytes that its sagas have left on the disk.
    pub(super) fn end(self) -> Result<u64, String> {
        for process in self.processes {
            drop(process);
        }
        if let Some(file) = self.file {
            succeed(Command::new(ours()).arg("settle").arg(file))?;
        }
        Ok(size(&self.data)?.saturating_sub(self.empty))
    }
}

/// Bytes that a folder takes on the disk.
fn size(folder: &Path) -> Result<u64, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // A server that runs removes files while they are counted.
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        bytes += match metadata.is_dir() {
            true => size(&path).unwrap_or(0),
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}

/// Starts a process that ends with the system.
pub(super) fn spawn(folder: &Path, command: &mut Command) -> Result<Running, String> {
    let log = folder.join("stderr.log");
    let log = fs::File::options().create(true).append(true).open(log);
    let log = log.map_err(|error| error.to_string())?;
    let spawned = command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    spawned
        .map(Running)
        .map_err(|error| format!("{command:?} could not be started: {error}"))
}

/// Our processes.
pub(super) fn ours() -> PathBuf {
    root().join("target/release/saga")
}

/// A command of the program with our processes.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    let words = words.iter().map(|&word| word.to_owned());
    [ours().display().to_string()]
        .into_iter()
        .chain(words)
        .collect()
}

/// A folder for what an engine writes.
pub(super) fn data_in(folder: &Path) -> Result<PathBuf, String> {
    let data = folder.join("data");
    fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
    Ok(data)
}

fn inside(folder: &Path) -> Result<System, String> {
    let data = data_in(folder)?;
    let file = data.join("sagas.db").display().to_string();
    System::new(Vec::new(), vec![words(&["inside", &file])], &data)
}

fn front(folder: &Path) -> Result<System, String> {
    let data = data_in(folder)?;
    let [port] = free_ports()?;
    let address = format!("127.0.0.1:{port}");
    let file = data.join("sagas.db");
    let mut serve = Command::new(ours());
    let server = spawn(folder, serve.args(["front", &address]).arg(file))?;
    asked(port, "POST", "/order", INPUT, STARTS)?;
    System::new(
        vec![server],
        vec![words(&["client", &address, "/order"])],
        &data,
    )
}

fn gateway(folder: &Path) -> Result<System, String> {
    let data = data_in(folder)?;
    let [clients, admin, steps] = free_ports()?;
    let mut serve = Command::new(ours());
    let service = spawn(
        folder,
        serve.args(["service", &format!("127.0.0.1:{steps}")]),
    )?;
    let policy = data.join("outlast.yaml");
    fs::write(&policy, policies(clients, admin, steps)).map_err(|error| error.to_string())?;
    let mut outlast = Command::new(root().join("target/release/outlast"));
    // Its database lies beside its policies.
    let server = spawn(&data, outlast.arg("serve").arg(&policy))?;
    let path = "/sagas/order?wait=10s";
    asked(admin, "POST", path, INPUT, STARTS)?;
    let address = format!("127.0.0.1:{admin}");
    let load = words(&["client", &address, path]);
    let mut system = System::new(vec![server, service], vec![load], &data)?;
    system.file = Some(data.join("outlast.db"));
    Ok(system)
}

fn policies(clients: u16, admin: u16, steps: u16) -> String {
    let mut text = format!(
        "gateway: {{ listen: \"127.0.0.1:{clients}\", admin: \"127.0.0.1:{admin}\" }}\n\
         upstreams: {{ service: {{ endpoints: \"http://127.0.0.1:{steps}\" }} }}\n\
         sagas:\n  definitions:\n    order:\n      version: 1\n      steps:\n"
    );
    for step in ["create", "reserve", "charge", "ship", "notify"] {
        text.push_str(&format!(
            "        - {{ name: {step}, upstream: service, request: POST /{step}, \
             body: {{ item: \"{{{{ input.item }}}}\" }} }}\n"
        ));
    }
    text
}

/// What an order begins with.
pub(super) const INPUT: &str = r#"{"item":"a book"}"#;
/// How long an engine may take until it works.
pub(super) const STARTS: Duration = Duration::from_secs(60);
