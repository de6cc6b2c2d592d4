//! Many sagas that a killed process has left: all go on, at a bounded rate.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{Memory, NewSaga, State, Store};
use outlast_saga::{Attempt, Event, Flow, Limits, Record, Runner, Stamp, Step};
use tokio::time::Instant;

/// A hundred thousand in the long mode.
fn sagas() -> u32 {
    if std::env::var_os("OUTLAST_LONG").is_some() {
        100_000
    } else {
        10_000
    }
}

/// Of them, in the real process.
fn a_second() -> u32 {
    sagas() / 2
}

/// When each saga was gone on with, since the start.
type Starts = Arc<Mutex<Vec<(String, Duration)>>>;

/// One step, which notes when it is tried; it never ends if `hangs`.
fn flow(starts: &Starts, hangs: bool) -> Flow {
    let (began, starts) = (Instant::now(), Arc::clone(starts));
    Flow::new("order", 1).step(Step::new("only"), move |attempt: Attempt| {
        let start = (attempt.saga().to_owned(), began.elapsed());
        starts.lock().unwrap().push(start);
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    })
}

fn limits(a_second: u32) -> Limits {
    let number = |number: u32| (number as usize).try_into().unwrap();
    Limits {
        running: number(sagas()),
        resumed_a_second: number(a_second),
        ..Limits::default()
    }
}

/// The child: begins all of them, or goes on with all of them.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("OUTLAST_MANY_FOLDER") else {
        return;
    };
    let begins = std::env::var_os("OUTLAST_MANY_BEGINS").is_some();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(std::path::Path::new(&folder).join("sagas.db")).unwrap();
        let starts = Starts::default();
        let runner = Runner::new(store.clone(), [flow(&starts, begins)], limits(a_second()));
        let runner = runner.unwrap();
        if begins {
            let mut begun = tokio::task::JoinSet::new();
            for number in 0..sagas() {
                let runner = runner.clone();
                let id = format!("o-{number}");
                begun.spawn(async move { runner.start("order", &id, number).await.unwrap() });
            }
            begun.join_all().await;
            println!("\nall have begun");
            std::future::pending::<()>().await;
        }
        let began = Instant::now();
        let resumed = runner.resume().await.unwrap();
        let took = began.elapsed();
        assert_eq!(
            (resumed.sagas, resumed.blocked.len()),
            (sagas() as usize, 0)
        );
        for number in 0..sagas() {
            let state = runner.rests(&format!("o-{number}")).await;
            assert_eq!(state, Ok(State::Completed), "{number}");
        }
        let starts = starts.lock().unwrap();
        let ids: std::collections::BTreeSet<_> = starts.iter().map(|(id, _)| id).collect();
        let (all, first) = (starts.len(), starts[0].1);
        println!(
            "\n{all} starts of {} sagas in {} ms",
            ids.len(),
            took.as_millis()
        );
        println!("the first one after {first:?}");
    });
}

#[test]
fn ten_thousand_sagas_of_a_killed_process_go_on_at_a_bounded_rate() {
    if std::env::var_os("OUTLAST_MANY_FOLDER").is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["many::child", "--exact", "--nocapture"])
            .env("OUTLAST_MANY_FOLDER", folder.path())
            .stdout(Stdio::piped());
        command
    };
    let mut first = start().env("OUTLAST_MANY_BEGINS", "").spawn().unwrap();
    let mut said = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "all have begun"));
    first.kill().unwrap();
    first.wait().unwrap();
    let second = start().output().unwrap();
    let said = String::from_utf8_lossy(&second.stdout);
    assert!(second.status.success(), "{said}");
    let begun = format!("{0} starts of {0} sagas in ", sagas());
    let took = said.lines().find_map(|line| line.strip_prefix(&begun));
    let took: u32 = took.unwrap().trim_end_matches(" ms").parse().unwrap();
    println!("{said}");
    // However fast the machine is. On a slow one it takes longer.
    assert!(took >= sagas() * 1000 / a_second(), "{took} ms");
}

/// No second has more than the limit, and no less than it allows.
#[tokio::test(start_paused = true)]
async fn every_second_has_as_many_as_it_may() {
    let store = Memory::new();
    let starts = Starts::default();
    let flow = flow(&starts, false);
    for number in 0..sagas() {
        let hash = flow.definition().hash();
        let began = Event::Began {
            definition: "order".to_owned(),
            version: 1,
            hash: hash.clone(),
            input: number.into(),
        };
        let started = Event::Started {
            step: 0,
            attempt: 1,
        };
        let saga = NewSaga {
            id: format!("o-{number}"),
            definition: "order".to_owned(),
            version: 1,
            hash,
            input_hash: String::new(),
            record: Record {
                seq: 0,
                at: Stamp(1),
                events: vec![began, started],
            },
            state: State::Open,
        };
        store.begin(saga).await.unwrap();
    }
    let runner = Runner::new(store, [flow], limits(1000)).unwrap();
    assert_eq!(runner.resume().await.unwrap().sagas, sagas() as usize);
    for number in 0..sagas() {
        let state = runner.rests(&format!("o-{number}")).await;
        assert_eq!(state, Ok(State::Completed));
    }
    let mut seconds = BTreeMap::<u64, u32>::new();
    for (_, since) in starts.lock().unwrap().iter() {
        *seconds.entry(since.as_secs()).or_default() += 1;
    }
    // They are taken by the page, which may lie on either side of a second's end.
    let (page, last) = (256, seconds.len() - 1);
    assert_eq!(seconds.values().sum::<u32>(), sagas());
    for (second, count) in seconds.values().enumerate() {
        let most = 1000 + page;
        let least = if second == last { 0 } else { 1000 - page };
        assert!((least..=most).contains(count), "second {second}: {count}");
    }
}
