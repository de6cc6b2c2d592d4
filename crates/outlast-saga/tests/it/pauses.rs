//! Definitions that are paused, in virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{Memory, State, Store};
use outlast_saga::{
    Attempt, ControlError, Flow, Limits, Runner, Started, Step, StepError, Tries, Undo,
};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Keys of attempts, with when they began.
type Ledger = Arc<Mutex<Vec<(String, Instant)>>>;

fn keys(ledger: &Ledger) -> Vec<String> {
    let ledger = ledger.lock().unwrap();
    ledger.iter().map(|(key, _)| key.clone()).collect()
}

/// Two steps of a second each; the second one is undone by the first of nothing.
fn order(ledger: &Ledger) -> Flow {
    let acts = |fails: bool| {
        let ledger = Arc::clone(ledger);
        move |attempt: Attempt| {
            let entry = (attempt.key(), Instant::now());
            ledger.lock().unwrap().push(entry);
            let fails = fails && attempt.saga().starts_with("bad");
            async move {
                tokio::time::sleep(SECOND).await;
                if fails {
                    return Err(StepError::transient("not now"));
                }
                Ok(())
            }
        }
    };
    let step = |name: &str| Step::new(name).tries(Tries::new(3).backoff(SECOND));
    Flow::new("order", 1)
        .step_with_undo(step("reserve").undo(Undo::new()), acts(false), acts(false))
        .step(step("charge"), acts(true))
}

fn other(ledger: &Ledger) -> Flow {
    let ledger = Arc::clone(ledger);
    Flow::new("other", 1).step(Step::new("only"), move |attempt: Attempt| {
        let entry = (attempt.key(), Instant::now());
        ledger.lock().unwrap().push(entry);
        async { Ok(()) }
    })
}

async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_while_a_definition_is_paused() {
    let ledger = Ledger::default();
    let flows = [order(&ledger), other(&ledger)];
    let runner = Runner::new(Memory::new(), flows, Limits::default()).unwrap();
    runner.start("order", "a", 1).await.unwrap();
    pass(0.5).await;
    runner
        .pause("order", "ann", "the bank is away")
        .await
        .unwrap();

    // What runs ends and is recorded; what is started is kept; others go on.
    assert_eq!(runner.start("order", "b", 1).await, Ok(Started::New));
    assert_eq!(runner.start("other", "c", 1).await, Ok(Started::New));
    pass(3600.0).await;
    assert_eq!(keys(&ledger), ["a/reserve", "c/only"]);
    assert_eq!(runner.store().log("a").await.unwrap().len(), 2);
    assert_eq!(runner.store().log("b").await.unwrap().len(), 1);
    let counts = runner.store().count().await.unwrap();
    assert_eq!((counts.len(), counts[0].sagas), (1, 2));
    let overview = runner.definitions().await.unwrap();
    assert!(overview[0].is_paused() && !overview[1].is_paused());
    let word = overview[0].pause.clone().unwrap();
    assert_eq!((&*word.by, &*word.reason), ("ann", "the bank is away"));
    assert_eq!(overview[0].done.in_flight, 2);

    runner.unpause("order", "bob", "it is back").await.unwrap();
    for id in ["a", "b"] {
        assert_eq!(runner.rests(id).await, Ok(State::Completed));
    }
    let overview = runner.definitions().await.unwrap();
    assert_eq!(overview[0].pause.clone().unwrap().by, "bob");
    assert_eq!(overview[0].done.completed, 2);
}

#[tokio::test(start_paused = true)]
async fn what_goes_back_goes_on_to_go_back_and_deadlines_hold() {
    let ledger = Ledger::default();
    let flow = order(&ledger).deadline(60 * SECOND);
    let runner = Runner::new(Memory::new(), [flow], Limits::default()).unwrap();
    for id in ["late", "unwanted", "bad"] {
        runner.start("order", id, 1).await.unwrap();
    }
    // The third one waits for its second attempt.
    pass(2.5).await;
    runner.pause("order", "ann", "why not").await.unwrap();
    assert_eq!(runner.rests("late").await, Ok(State::Completed), "it ran");
    runner.start("order", "later", 1).await.unwrap();
    runner.start("order", "unwanted-2", 1).await.unwrap();
    runner.cancel("unwanted-2", "ann", "no need").await.unwrap();
    let rested = async |id: &str| runner.rests(id).await.unwrap();
    assert_eq!(rested("unwanted-2").await, State::Compensated);
    let before = Instant::now();
    assert_eq!(rested("bad").await, State::Compensated);
    assert_eq!(rested("later").await, State::Compensated);
    assert!(before.elapsed() >= 57 * SECOND, "by their deadlines");
    assert_eq!(
        keys(&ledger)
            .iter()
            .filter(|key| key.starts_with("bad"))
            .collect::<Vec<_>>(),
        ["bad/reserve", "bad/charge", "bad/reserve/undo"]
    );
    assert!(!keys(&ledger).iter().any(|key| key.starts_with("later")));
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_well_and_those_that_waited_go_on_one_after_the_other() {
    let ledger = Ledger::default();
    let limits = Limits {
        resumed_a_second: 10.try_into().unwrap(),
        ..Limits::default()
    };
    let runner = Runner::new(Memory::new(), [order(&ledger)], limits).unwrap();
    runner.start("order", "bad", 1).await.unwrap();
    pass(2.5).await;
    runner.pause("order", "ann", "why not").await.unwrap();
    for number in 0..50 {
        let id = format!("s{number}");
        runner.start("order", &id, 1).await.unwrap();
    }
    pass(100.0).await;
    assert_eq!(keys(&ledger), ["bad/reserve", "bad/charge"]);
    let before = Instant::now();
    runner.unpause("order", "ann", "on").await.unwrap();
    pass(1.95).await;
    // Said again, and taken back: nobody goes on for a word that does not hold any more.
    runner.pause("order", "ann", "again").await.unwrap();
    let begun = |ledger: &Ledger| {
        let ledger = ledger.lock().unwrap();
        let begun = ledger.iter().filter(|(key, at)| {
            *at >= before && (key.ends_with("reserve") || *key == "bad/charge")
        });
        begun.count()
    };
    let so_far = begun(&ledger);
    assert!((19..=21).contains(&so_far), "{so_far}");
    pass(3600.0).await;
    assert_eq!(begun(&ledger), so_far);
    runner.unpause("order", "ann", "on").await.unwrap();
    for number in 0..50 {
        let id = format!("s{number}");
        assert_eq!(runner.rests(&id).await, Ok(State::Completed));
    }
    assert_eq!(runner.rests("bad").await, Ok(State::Compensated));
}

#[tokio::test]
async fn a_pause_survives_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    let ledger = Ledger::default();
    let open = || {
        let store = Sqlite::open(&path).unwrap();
        Runner::new(store, [order(&ledger)], Limits::default()).unwrap()
    };
    let runner = open();
    runner.pause("order", "ann", "why not").await.unwrap();
    runner.start("order", "a", 1).await.unwrap();
    // A runtime that ends takes its tasks with it; here the store has to be let go by hand.
    runner.cancel("a", "ann", "over").await.unwrap();
    assert_eq!(runner.rests("a").await, Ok(State::Compensated));
    drop(runner);

    // Also if nobody resumes, and somebody starts at once.
    let runner = open();
    runner.start("order", "b", 1).await.unwrap();
    assert!(runner.overview()[0].is_paused());
    assert_eq!(keys(&ledger), Vec::<String>::new());
    assert_eq!(runner.resume().await.unwrap().sagas, 0);
    runner.unpause("order", "ann", "on").await.unwrap();
    assert_eq!(runner.rests("b").await, Ok(State::Completed));
}

/// The next process finds it paused, and what it goes on with waits.
#[tokio::test(start_paused = true)]
async fn what_is_resumed_waits() {
    let ledger = Ledger::default();
    let store = Arc::new(Memory::new());
    let first = Runner::new(
        Shared(Arc::clone(&store)),
        [order(&ledger)],
        Limits::default(),
    );
    let first = first.unwrap();
    first.pause("order", "ann", "why not").await.unwrap();
    first.start("order", "a", 1).await.unwrap();
    let next = Runner::new(Shared(store), [order(&ledger)], Limits::default()).unwrap();
    assert_eq!(next.resume().await.unwrap().sagas, 1);
    pass(100.0).await;
    assert_eq!(keys(&ledger), Vec::<String>::new());
    next.unpause("order", "ann", "on").await.unwrap();
    assert_eq!(next.rests("a").await, Ok(State::Completed));
}

#[tokio::test(start_paused = true)]
async fn words_that_make_no_sense_are_refused() {
    let ledger = Ledger::default();
    let runner = Runner::new(Memory::new(), [order(&ledger)], Limits::default()).unwrap();
    let refused = |said: Result<(), ControlError>, why: &str| {
        let said = said.unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    };
    refused(
        runner.pause("ordr", "ann", "?").await,
        "there is no such definition; there are: order",
    );
    refused(runner.pause("order", " ", "?").await, "say who does it");
    refused(runner.pause("order", "ann", "").await, "and why");
    refused(
        runner.pause("order", "ann", &"x".repeat(2001)).await,
        "up to 2000",
    );
    refused(
        runner.unpause("order", "ann", "on").await,
        "it is not paused",
    );
}

/// A store that two runners have, one after the other.
struct Shared(Arc<Memory>);

impl Store for Shared {
    async fn begin(
        &self,
        saga: outlast_saga::store::NewSaga,
    ) -> Result<outlast_saga::store::Begun, outlast_saga::store::StoreError> {
        self.0.begin(saga).await
    }

    async fn append(
        &self,
        id: &str,
        record: outlast_saga::Record,
        state: State,
    ) -> Result<(), outlast_saga::store::StoreError> {
        self.0.append(id, record, state).await
    }

    async fn log(
        &self,
        id: &str,
    ) -> Result<Vec<outlast_saga::Record>, outlast_saga::store::StoreError> {
        self.0.log(id).await
    }

    async fn find(
        &self,
        id: &str,
    ) -> Result<Option<outlast_saga::store::Listed>, outlast_saga::store::StoreError> {
        self.0.find(id).await
    }

    async fn list(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<outlast_saga::store::Listed>, outlast_saga::store::StoreError> {
        self.0.list(state, after, most).await
    }

    async fn forget(
        &self,
        before: outlast_saga::Stamp,
        most: usize,
    ) -> Result<usize, outlast_saga::store::StoreError> {
        self.0.forget(before, most).await
    }

    async fn pause(
        &self,
        pause: outlast_saga::store::Pause,
    ) -> Result<(), outlast_saga::store::StoreError> {
        self.0.pause(pause).await
    }

    async fn pauses(
        &self,
    ) -> Result<Vec<outlast_saga::store::Pause>, outlast_saga::store::StoreError> {
        self.0.pauses().await
    }
}
