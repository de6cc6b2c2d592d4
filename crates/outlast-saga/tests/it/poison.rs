//! A step that kills its process, again and again: it is set aside, and no other saga is.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{State, Store};
use outlast_saga::{Attempt, Flow, Limits, Runner, Step, Tries, Undo};

/// How many it may kill before somebody has to look.
const MOST_KILLED: u32 = 11;

/// Steps have the three attempts that are usual.
fn flow() -> Flow {
    let deadly = |attempt: Attempt| async move {
        if attempt.input()? {
            // Nothing of this process runs after it.
            let own = std::process::id().to_string();
            Command::new("kill").args(["-9", &own]).status().unwrap();
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let step = |name| Step::new(name).tries(Tries::new(3).backoff(Duration::from_millis(2)));
    Flow::new("order", 1)
        .step_with_undo(
            step("first").undo(Undo::new()),
            |_| async { Ok(()) },
            |_| async { Ok(()) },
        )
        .step(step("deadly"), deadly)
}

/// The child: goes on with all of them until they rest, if it lives so long.
#[test]
fn child() {
    let Some(file) = std::env::var_os("OUTLAST_POISON_FILE") else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(file).unwrap();
        let runner = Runner::new(store, [flow()], Limits::default()).unwrap();
        runner.resume().await.unwrap();
        for number in 0..10 {
            let id = format!("o-{number}");
            runner.start("order", &id, number == 5).await.unwrap();
        }
        for number in 0..10 {
            runner.rests(&format!("o-{number}")).await.unwrap();
        }
    });
}

/// Runs children until one lives; how many did not, and what the store says then.
fn killed(file: &Path) -> (u32, Vec<State>, String) {
    let mut killed = 0;
    loop {
        let ran = Command::new(std::env::current_exe().unwrap())
            .args(["poison::child", "--exact", "--nocapture"])
            .env("OUTLAST_POISON_FILE", file)
            .output()
            .unwrap();
        if ran.status.success() {
            break;
        }
        assert_eq!(ran.status.code(), None, "{ran:?}");
        killed += 1;
        assert!(killed <= MOST_KILLED, "it kills for ever");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let (states, log) = runtime.unwrap().block_on(async {
        let store = Sqlite::open(file).unwrap();
        let all = store.list(None, 0, 100).await.unwrap();
        let log = store.log("o-5").await.unwrap();
        (all.into_iter().map(|listed| listed.state).collect(), log)
    });
    (killed, states, format!("{log:?}"))
}

#[test]
fn a_step_that_kills_its_process_is_set_aside_and_no_other_is() {
    if std::env::var_os("OUTLAST_POISON_FILE").is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (killed, states, log) = killed(&folder.path().join("sagas.db"));
    assert_eq!(killed, MOST_KILLED);
    let mut all = vec![State::Completed; 10];
    all[5] = State::Waiting;
    assert_eq!(states, all);
    let why = "11 processes ended while it was done";
    assert!(log.contains(why), "{log}");
}
