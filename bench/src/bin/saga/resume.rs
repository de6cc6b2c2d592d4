//! Going on with sagas that a process left when it was killed.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::{Flow, Limits, Runner, Step};
use serde_json::json;
use tokio::sync::Notify;

use crate::inside::STEPS;
use crate::load::say;

/// Begins sagas whose first step never ends; says `ready` when the first step of each is under way.
pub(crate) async fn leave(file: &Path, count: usize) -> Result<(), String> {
    let counted = Counted::new(count);
    let runner = runner(file, &counted, count, true, 1000)?;
    let mut starts = tokio::task::JoinSet::new();
    for first in 0..STARTERS {
        let runner = runner.clone();
        starts.spawn(async move {
            for number in (first..count).step_by(STARTERS) {
                let id = format!("order-{number}");
                let started = runner.start("order", &id, json!({"item": "a book"}));
                started.await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(ended) = starts.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    counted.all.notified().await;
    say("ready")?;
    std::future::pending().await
}

/// Goes on with all of them; says `first` when a step is under way, `all` when one of each saga is, and
/// `ended` when the last one has ended.
pub(crate) async fn resume(file: &Path, count: usize, pace: usize) -> Result<(), String> {
    let counted = Counted::new(count);
    let runner = runner(file, &counted, count, false, pace)?;
    let told = Arc::clone(&counted);
    let tells = async move {
        told.first.notified().await;
        say("first")?;
        told.all.notified().await;
        say("all")
    };
    let resumes = async {
        let resumed = runner.resume().await.map_err(|error| error.to_string())?;
        if resumed.sagas == count && resumed.blocked.is_empty() {
            return Ok(());
        }
        Err(format!("{} of {count} sagas go on", resumed.sagas))
    };
    tokio::try_join!(tells, resumes)?;
    while runner.in_flight() > 0 {
        #[expect(clippy::disallowed_methods, reason = "nobody tells that none runs")]
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    say("ended")
}

/// First steps that were begun.
struct Counted {
    count: usize,
    begun: AtomicUsize,
    first: Notify,
    all: Notify,
}

impl Counted {
    fn new(count: usize) -> Arc<Counted> {
        Arc::new(Counted {
            count,
            begun: AtomicUsize::new(0),
            first: Notify::new(),
            all: Notify::new(),
        })
    }

    fn one(&self) {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        if begun == 1 {
            self.first.notify_one();
        }
        if begun == self.count {
            self.all.notify_one();
        }
    }
}

/// The same definition for both: only the code of the first step differs.
fn runner(
    file: &Path,
    counted: &Arc<Counted>,
    count: usize,
    hangs: bool,
    pace: usize,
) -> Result<Runner<Sqlite>, String> {
    let mut flow = Flow::new("order", 1);
    for (number, step) in STEPS.into_iter().enumerate() {
        let counted = Arc::clone(counted);
        flow = flow.step(Step::new(step).timeout(LONGEST), move |_| {
            if number == 0 {
                counted.one();
            }
            let hangs = hangs && number == 0;
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(json!({"id": format!("{step}-of-a-book"), "state": "done"}))
            }
        });
    }
    let bound = |number: usize| NonZeroUsize::new(number).ok_or("none is too few".to_owned());
    let limits = Limits {
        running: bound(count)?,
        resumed_a_second: bound(pace)?,
        ..Limits::default()
    };
    let store = Sqlite::open(file).map_err(|error| error.to_string())?;
    Runner::new(store, [flow], limits).map_err(|error| error.to_string())
}

const STARTERS: usize = 256;
/// Longer than anybody measures.
const LONGEST: Duration = Duration::from_secs(3600);
