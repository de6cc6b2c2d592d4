//! One cell of the table: a load on an engine, and what it takes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::system::System;
use crate::process::{Running, processor_time, proportional};

/// How long a load runs.
#[derive(Clone, Copy)]
pub(super) struct Timing {
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Sagas a second.
    pub(super) rate: f64,
    /// Half of them took no longer, in milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Processor seconds for a thousand of them, of all processes.
    pub(super) processor: f64,
    /// Megabytes of all processes but those that only put load on it.
    pub(super) memory: f64,
    /// Sagas that ended, with those of the warm-up.
    pub(super) total: u64,
}

/// Puts load on a system.
pub(super) fn measure(system: &System, at_once: usize, timing: Timing) -> Result<Measured, String> {
    let parts = system.loads.len();
    let part = |command: &Vec<String>| Load::start(command, at_once / parts, timing);
    let mut loads = system
        .loads
        .iter()
        .map(part)
        .collect::<Result<Vec<_>, _>>()?;
    for load in &loads {
        load.says("ready")?;
    }
    loads.iter_mut().try_for_each(Load::begin)?;
    for load in &loads {
        load.says("begin")?;
    }
    let ids = || {
        let loads = loads.iter().map(|load| load.process.id());
        system.processes.iter().map(Running::id).chain(loads)
    };
    let used = || ids().map(processor_time).sum::<f64>();
    let before = used();
    for load in &loads {
        load.says("end")?;
    }
    let used = used() - before;
    let memory = match system.processes.is_empty() || parts > 1 {
        true => ids().map(proportional).sum(),
        false => system
            .processes
            .iter()
            .map(|own| proportional(own.id()))
            .sum(),
    };
    let (mut total, mut took) = (0, Vec::new());
    for load in &mut loads {
        let (sagas, micros) = load.took()?;
        total += sagas;
        took.extend(micros);
    }
    if took.is_empty() {
        return Err("not one saga ended while it was measured".to_owned());
    }
    took.sort_unstable();
    let at = |share: f64| f64::from(took[(took.len() as f64 * share) as usize]) / 1e3;
    Ok(Measured {
        rate: took.len() as f64 / timing.measured.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        processor: used / took.len() as f64 * 1e3,
        memory,
        total,
    })
}

/// A process that puts load on a system, or is one.
pub(super) struct Load {
    process: Running,
    lines: Receiver<String>,
    name: String,
}

impl Load {
    fn start(command: &[String], at_once: usize, timing: Timing) -> Result<Load, String> {
        let millis = |time: Duration| time.as_millis().to_string();
        let mut process = Command::new(&command[0]);
        process.args(&command[1..]).arg(at_once.to_string());
        process.args([millis(timing.warm_up), millis(timing.measured)]);
        Load::spawn(&mut process)
    }

    /// Starts a process that says how far it is.
    pub(super) fn spawn(command: &mut Command) -> Result<Load, String> {
        let name = format!("{command:?}");
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child: Child =
            spawned.map_err(|error| format!("{name} could not be started: {error}"))?;
        let out = child.stdout.take().expect("it is piped");
        let (said, lines) = mpsc::channel();
        // A line that does not come must not hold up the benchmark, so somebody else waits for it.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Load {
            process: Running(child),
            lines,
            name,
        })
    }

    fn begin(&mut self) -> Result<(), String> {
        let stdin = self.process.0.stdin.as_mut().expect("it is piped");
        let said = stdin.write_all(b"\n");
        said.map_err(|error| format!("{}: {error}", self.name))
    }

    /// The next line.
    fn line(&self) -> Result<String, String> {
        let line = self.lines.recv_timeout(LONGEST);
        line.map_err(|_| format!("{} has ended, or says nothing", self.name))
    }

    /// Waits until it says a line.
    pub(super) fn says(&self, expected: &str) -> Result<(), String> {
        match self.line()? {
            line if line == expected => Ok(()),
            line => Err(format!("{} says {line:?} for {expected:?}", self.name)),
        }
    }

    /// All its sagas, and how long each one took that was measured, in microseconds; waits for its end.
    fn took(&mut self) -> Result<(u64, Vec<u32>), String> {
        let line = self.line()?;
        let mut numbers = line
            .strip_prefix("took ")
            .ok_or(format!("{} says {line:?}", self.name))?
            .split(' ')
            .map(|number| number.parse().unwrap_or(u32::MAX));
        let total = u64::from(numbers.next().unwrap_or(0));
        let ended = self.process.0.wait();
        match ended {
            Ok(status) if status.success() => Ok((total, numbers.collect())),
            ended => Err(format!("{} ended with {ended:?}", self.name)),
        }
    }

    /// Ends it as a crash does.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        let killed = self.process.0.kill().and_then(|()| self.process.0.wait());
        killed.map(drop).map_err(|error| error.to_string())
    }
}

/// How long a process may say nothing.
const LONGEST: Duration = Duration::from_secs(180);
