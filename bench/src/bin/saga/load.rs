//! A closed loop: so many sagas at once, each followed by the next one when it has ended.
//!
//! Says `ready` and waits for a line, so that several processes can begin together. Then it warms up,
//! says `begin`, measures, says `end`, and at last `took` with all sagas since the start and how long each one
//! took that ended while it measured, in microseconds. Who started it looks at processor time and memory
//! when it reads these lines. A saga that does not end as it should ends the process with an error.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures time and has tasks of its own"
)]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// What one of those at once does again and again.
pub(crate) trait Slot: Send + 'static {
    /// Starts a saga and waits for its end. `number` is given once in a process.
    fn once(&mut self, number: u64) -> impl Future<Output = Result<(), String>> + Send;
}

/// How long it runs.
pub(crate) struct Load {
    pub(crate) at_once: usize,
    warm_up: Duration,
    measured: Duration,
}

impl Load {
    /// From the arguments `AT_ONCE WARM_UP MEASURED`, the last two in milliseconds.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Load, String> {
        let mut number = |name: &str| {
            let text = arguments.next();
            let number = text.and_then(|text| text.parse::<u64>().ok());
            number.ok_or(format!("{name} has to be a number"))
        };
        Ok(Load {
            at_once: number("AT_ONCE")? as usize,
            warm_up: Duration::from_millis(number("WARM_UP")?),
            measured: Duration::from_millis(number("MEASURED")?),
        })
    }

    /// Runs it.
    pub(crate) async fn run<S: Slot>(&self, slots: Vec<S>) -> Result<(), String> {
        let phase = Arc::new(AtomicU8::new(WARMS_UP));
        say("ready")?;
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        read.map_err(|error| error.to_string())?;
        let mut tasks = tokio::task::JoinSet::new();
        let step = slots.len() as u64;
        for (first, slot) in slots.into_iter().enumerate() {
            tasks.spawn(again(slot, first as u64, step, Arc::clone(&phase)));
        }
        tokio::time::sleep(self.warm_up).await;
        say("begin")?;
        phase.store(MEASURES, Ordering::Relaxed);
        tokio::time::sleep(self.measured).await;
        phase.store(ENDS, Ordering::Relaxed);
        say("end")?;
        let (mut total, mut latencies) = (0, String::new());
        while let Some(ended) = tasks.join_next().await {
            let (sagas, took) = ended.map_err(|error| error.to_string())??;
            total += sagas;
            for micros in took {
                latencies.push_str(&format!(" {micros}"));
            }
        }
        say(&format!("took {total}{latencies}"))
    }
}

/// How many ended, and how long those took that did while it measured.
async fn again(
    mut slot: impl Slot,
    first: u64,
    step: u64,
    phase: Arc<AtomicU8>,
) -> Result<(u64, Vec<u32>), String> {
    let (mut total, mut took) = (0, Vec::new());
    while phase.load(Ordering::Relaxed) != ENDS {
        let before = Instant::now();
        slot.once(first + total * step).await?;
        total += 1;
        if phase.load(Ordering::Relaxed) == MEASURES {
            let micros = u32::try_from(before.elapsed().as_micros());
            took.push(micros.unwrap_or(u32::MAX));
        }
    }
    Ok((total, took))
}

pub(crate) fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let said = writeln!(out, "{line}").and_then(|()| out.flush());
    said.map_err(|error| error.to_string())
}

const WARMS_UP: u8 = 0;
const MEASURES: u8 = 1;
const ENDS: u8 = 2;
