//! Runners: what they do with the world, in virtual time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_saga::store::sqlite::Sqlite;
use outlast_saga::store::{Memory, State, Store, StoreError};
use outlast_saga::{
    At, Attempt, ControlError, Flow, Hand, Limits, OnUnknown, Query, Record, Runner, Stamp,
    StartError, Started, Step, StepError, Tries, Undo, Was,
};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// What was done, in its order.
type Ledger = Arc<Mutex<Vec<String>>>;

fn note(ledger: &Ledger, what: impl Into<String>) {
    ledger.lock().unwrap().push(what.into());
}

fn lines(ledger: &Ledger) -> Vec<String> {
    ledger.lock().unwrap().clone()
}

fn step(name: &str) -> Step {
    Step::new(name)
        .tries(Tries::new(3).backoff(SECOND))
        .timeout(5 * SECOND)
}

/// Three steps that keep a ledger; the last one does what it is told.
fn flow<F>(ledger: &Ledger, last: impl Fn(Attempt) -> F + Send + Sync + 'static) -> Flow
where
    F: Future<Output = Result<u32, StepError>> + Send + 'static,
{
    let acts = |name: &'static str| {
        let ledger = Arc::clone(ledger);
        move |attempt: Attempt| {
            note(&ledger, attempt.key());
            async move { Ok(format!("{name} of {}", attempt.input::<u32>()?)) }
        }
    };
    let undoes = |name: &'static str| {
        let ledger = Arc::clone(ledger);
        move |attempt: Attempt| {
            let output: Option<String> = attempt.output(name).unwrap();
            note(
                &ledger,
                format!("{} {}", attempt.key(), output.unwrap_or_default()),
            );
            async { Ok(()) }
        }
    };
    let undo = || Undo::new().tries(Tries::new(2).backoff(SECOND));
    Flow::new("order", 1)
        .step_with_undo(
            step("reserve").undo(undo()),
            acts("reserve"),
            undoes("reserve"),
        )
        .step_with_undo(
            step("charge").undo(undo()),
            acts("charge"),
            undoes("charge"),
        )
        .step(step("ship"), last)
}

fn runner(flow: Flow) -> Runner<Memory> {
    Runner::new(Memory::new(), [flow], Limits::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn steps_are_done_in_order_with_their_keys() {
    let ledger = Ledger::default();
    let runner = runner(flow(&ledger, |attempt| async move {
        let charged: Option<String> = attempt.output("charge")?;
        assert_eq!(charged.as_deref(), Some("charge of 7"));
        Ok(attempt.number())
    }));
    assert_eq!(runner.start("order", "o-1", 7).await, Ok(Started::New));
    assert_eq!(runner.rests("o-1").await, Ok(State::Completed));
    assert_eq!(lines(&ledger), ["o-1/reserve", "o-1/charge"]);
    assert_eq!(runner.start("order", "o-1", 7).await, Ok(Started::Same));
    assert_eq!(
        runner.start("order", "o-1", 8).await,
        Err(StartError::Other)
    );
    assert_eq!(lines(&ledger).len(), 2);
    assert_eq!(runner.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_undone_in_reverse_with_what_it_gave() {
    let ledger = Ledger::default();
    let runner = runner(flow(&ledger, |_| async {
        Err(StepError::permanent("no stock"))
    }));
    runner.start("order", "o-1", 7).await.unwrap();
    assert_eq!(runner.rests("o-1").await, Ok(State::Compensated));
    let undone = [
        "o-1/charge/undo charge of 7",
        "o-1/reserve/undo reserve of 7",
    ];
    assert_eq!(lines(&ledger)[2..], undone);
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_or_panics_is_not_known() {
    let tried = Arc::new(AtomicU32::new(0));
    let ledger = Ledger::default();
    let count = Arc::clone(&tried);
    let runner = runner(flow(&ledger, move |attempt| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            match attempt.number() {
                1 => std::future::pending().await,
                2 => panic!("at the second"),
                number => Ok(number),
            }
        }
    }));
    let began = tokio::time::Instant::now();
    runner.start("order", "o-1", 7).await.unwrap();
    assert_eq!(runner.rests("o-1").await, Ok(State::Completed));
    assert_eq!(tried.load(Ordering::Relaxed), 3);
    assert!(
        began.elapsed() >= 7 * SECOND,
        "five for the timeout, and two waits"
    );
    let log = runner.store().log("o-1").await.unwrap();
    let told = format!("{log:?}");
    assert!(told.contains("no answer within 5s") && told.contains("it panicked: at the second"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_waits_for_somebody() {
    let broken = Arc::new(AtomicU32::new(1));
    let is_broken = Arc::clone(&broken);
    let charge = step("charge").undo(Undo::new().tries(Tries::new(2).backoff(SECOND)));
    let flow = Flow::new("order", 1)
        .step_with_undo(
            charge,
            |_| async { Ok(1) },
            move |_| {
                let is_broken = is_broken.load(Ordering::Relaxed) == 1;
                async move {
                    if is_broken {
                        Err(StepError::transient("the bank is away"))
                    } else {
                        Ok(())
                    }
                }
            },
        )
        .step(step("ship"), |_| async {
            Err::<(), _>(StepError::permanent("no"))
        });
    let runner = runner(flow);
    runner.start("order", "o-1", 7).await.unwrap();
    assert_eq!(runner.rests("o-1").await, Ok(State::Waiting));
    assert_eq!(runner.in_flight(), 0, "it holds nothing while it waits");
    let unknown = runner.handle("o-1", "pack", Hand::Retry, "ann", "?").await;
    assert_eq!(unknown, Err(ControlError::NoStep));
    let needless = runner.handle("o-1", "ship", Hand::Retry, "ann", "?").await;
    assert!(
        matches!(needless, Err(ControlError::Illegal(_))),
        "{needless:?}"
    );
    runner
        .handle("o-1", "charge", Hand::Retry, "ann", "it may be back")
        .await
        .unwrap();
    assert_eq!(runner.rests("o-1").await, Ok(State::Waiting), "it is not");
    broken.store(0, Ordering::Relaxed);
    runner
        .handle("o-1", "charge", Hand::Retry, "ann", "it is back")
        .await
        .unwrap();
    assert_eq!(runner.rests("o-1").await, Ok(State::Compensated));
    let late = runner.cancel("o-1", "ann", "late").await.unwrap_err();
    assert!(late.to_string().contains("it has ended"), "{late}");
    assert_eq!(
        runner.cancel("nobody", "ann", "?").await,
        Err(ControlError::NoSaga)
    );
}

#[tokio::test(start_paused = true)]
async fn a_saga_in_flight_is_cancelled() {
    let ledger = Ledger::default();
    let runner = runner(flow(&ledger, |_| std::future::pending()));
    runner.start("order", "o-1", 7).await.unwrap();
    tokio::time::sleep(SECOND).await;
    runner
        .cancel("o-1", "eve", "changed her mind")
        .await
        .unwrap();
    assert_eq!(runner.rests("o-1").await, Ok(State::Compensated));
    assert_eq!(lines(&ledger).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn starts_have_bounds() {
    let ledger = Ledger::default();
    let limits = Limits {
        running: 2.try_into().unwrap(),
        bytes: 100,
        ..Limits::default()
    };
    let flow = flow(&ledger, |_| std::future::pending());
    let runner = Runner::new(Memory::new(), [flow], limits).unwrap();
    runner.start("order", "a", 1).await.unwrap();
    runner.start("order", "b", 1).await.unwrap();
    assert_eq!(runner.start("order", "c", 1).await, Err(StartError::Busy));
    // What begins nothing needs no room.
    assert_eq!(runner.start("order", "b", 1).await, Ok(Started::Same));
    assert_eq!(runner.start("order", "b", 2).await, Err(StartError::Other));
    runner.cancel("a", "eve", "room").await.unwrap();
    runner.rests("a").await.unwrap();
    assert_eq!(runner.start("order", "c", 1).await, Ok(Started::New));
    let long = runner
        .start("order", "d", "x".repeat(200))
        .await
        .unwrap_err();
    assert!(
        long.to_string().contains("202 bytes, and 100 are allowed"),
        "{long}"
    );
    let known = vec!["order".to_owned()];
    assert_eq!(
        runner.start("odrer", "d", 1).await,
        Err(StartError::NoFlow { known })
    );
    assert!(matches!(
        runner.start("order", "", 1).await,
        Err(StartError::Input(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn flows_that_cannot_work_are_refused() {
    let refused = |flows: Vec<Flow>, part: &str| {
        let error = Runner::new(Memory::new(), flows, Limits::default()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    };
    let act = |_| async { Ok(1) };
    refused(
        vec![Flow::new("a b", 1).step(step("x"), act)],
        "`a b` is no name of a saga",
    );
    refused(vec![Flow::new("a", 1)], "without steps");
    let undo = step("x").undo(Undo::new());
    refused(
        vec![Flow::new("a", 1).step(undo, act)],
        "no code for it: use `step_with_undo`",
    );
    let code = Flow::new("a", 1).step_with_undo(step("x"), act, |_| async { Ok(()) });
    refused(vec![code], "say how with `Step::undo`");
    let asks = || step("x").on_unknown(OnUnknown::Query(Query::new()));
    let whether = |_| async { Ok(Was::Done(1)) };
    refused(
        vec![Flow::new("a", 1).step(asks(), act)],
        "has no code for it: add `Flow::query` behind it",
    );
    refused(
        vec![Flow::new("a", 1).step(step("x"), act).query(whether)],
        "say how with `OnUnknown::Query`",
    );
    refused(
        vec![Flow::new("a", 1).query(whether).step(step("x"), act)],
        "`a` has a query before its first step",
    );
    let stray = |group: Flow| group.query(whether).step(step("x"), act);
    refused(
        vec![Flow::new("a", 1).at_once(stray)],
        "before its first step",
    );
    let no_time = OnUnknown::Query(Query::new().timeout(Duration::ZERO));
    let asks_at_once = Flow::new("a", 1).step(step("x").on_unknown(no_time), act);
    refused(vec![asks_at_once.query(whether)], "`x` has no time");
    let one = || Flow::new("a", 1).step(step("x"), act);
    refused(vec![one(), one()], "version 1 of `a` is there twice");
    refused(vec![one().step(step("x"), act)], "two steps are called `x`");
}

/// A store that fails as often as it is told to.
struct Failing {
    inner: Memory,
    left: AtomicU32,
    /// Logs that cannot be read.
    unread: AtomicU32,
    /// Whose sagas are this runner's.
    taken: Mutex<Vec<String>>,
}

impl Failing {
    fn new(left: u32) -> Failing {
        Failing {
            inner: Memory::new(),
            left: AtomicU32::new(left),
            unread: AtomicU32::new(0),
            taken: Mutex::default(),
        }
    }
}

impl Store for Failing {
    async fn begin(
        &self,
        saga: outlast_saga::store::NewSaga,
    ) -> Result<outlast_saga::store::Begun, StoreError> {
        self.inner.begin(saga).await
    }

    async fn append(&self, id: &str, record: Record, state: State) -> Result<(), StoreError> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return self.inner.append(id, record, state).await;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        if left.is_multiple_of(2) {
            // It is there, and nobody is told.
            self.inner.append(id, record, state).await?;
        }
        Err(StoreError::Full("no space left on device".to_owned()))
    }

    async fn log(&self, id: &str) -> Result<Vec<Record>, StoreError> {
        if self.unread.swap(0, Ordering::Relaxed) > 0 {
            return Err(StoreError::Failed("it is away".to_owned()));
        }
        self.inner.log(id).await
    }

    async fn take(&self, id: &str) -> Result<bool, StoreError> {
        self.taken.lock().unwrap().push(id.to_owned());
        Ok(true)
    }

    async fn release(&self, id: &str) {
        self.taken.lock().unwrap().retain(|taken| taken != id);
    }

    async fn find(&self, id: &str) -> Result<Option<outlast_saga::store::Listed>, StoreError> {
        self.inner.find(id).await
    }

    async fn list(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<outlast_saga::store::Listed>, StoreError> {
        self.inner.list(state, after, most).await
    }

    async fn forget(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        self.inner.forget(before, most).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_asked_again_and_nothing_is_done_meanwhile() {
    let ledger = Ledger::default();
    let store = Failing::new(10);
    let flow = flow(&ledger, |attempt| async move { Ok(attempt.number()) });
    let runner = Runner::new(store, [flow], Limits::default()).unwrap();
    runner.start("order", "o-1", 7).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(
        lines(&ledger),
        ["o-1/reserve"],
        "the next one is not on the disk yet"
    );
    assert_eq!(runner.rests("o-1").await, Ok(State::Completed));
    assert_eq!(lines(&ledger), ["o-1/reserve", "o-1/charge"], "each once");
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_could_not_be_read_is_not_kept_from_others() {
    let flow = Flow::new("order", 1)
        .step(step("pay").pivot(), |_| async { Ok(()) })
        .step(step("ship"), |_| async {
            Err::<(), _>(StepError::permanent("no such street"))
        });
    let runner = Runner::new(Failing::new(0), [flow], Limits::default()).unwrap();
    runner.start("order", "o-1", 7).await.unwrap();
    assert_eq!(runner.rests("o-1").await, Ok(State::Waiting));
    let resolve = || runner.handle("o-1", "ship", Hand::Resolve, "ann", "by hand");
    runner.store().unread.store(1, Ordering::Relaxed);
    let away = StoreError::Failed("it is away".to_owned());
    assert_eq!(resolve().await, Err(ControlError::Store(away)));
    assert_eq!(*runner.store().taken.lock().unwrap(), [""; 0]);
    assert_eq!(resolve().await, Ok(()));
    assert_eq!(runner.rests("o-1").await, Ok(State::Completed));
}

/// Whoever starts one may go away, as a client does whose connection is cut.
#[tokio::test]
async fn a_saga_goes_on_whose_start_nobody_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path().join("sagas.db")).unwrap();
    let flow = Flow::new("order", 1).step(step("pay"), |_| async { Ok(()) });
    let runner = Runner::new(store, [flow], Limits::default()).unwrap();
    runner.definitions().await.unwrap();
    for number in 0..20 {
        let id = format!("o-{number}");
        // It is asked for once, and then not any more.
        let _ = tokio::time::timeout(Duration::ZERO, runner.start("order", &id, 7)).await;
        let ended = async {
            let state = async || {
                runner
                    .store()
                    .find(&id)
                    .await
                    .unwrap()
                    .map(|listed| listed.state)
            };
            while state().await != Some(State::Completed) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = tokio::time::timeout(60 * SECOND, ended).await;
        assert_eq!(in_time, Ok(()), "{id} stands still");
    }
}

/// A store that says from some time on that another runner goes on.
struct TakenOver {
    inner: Arc<Memory>,
    /// After so many records.
    after: u64,
    /// It takes the record, and then lets nothing begin.
    late: bool,
}

impl TakenOver {
    fn lost(id: &str) -> Result<(), StoreError> {
        Err(StoreError::Lost { id: id.to_owned() })
    }
}

impl Store for TakenOver {
    async fn begin(
        &self,
        saga: outlast_saga::store::NewSaga,
    ) -> Result<outlast_saga::store::Begun, StoreError> {
        self.inner.begin(saga).await
    }

    async fn append(&self, id: &str, record: Record, state: State) -> Result<(), StoreError> {
        if !self.late && record.seq >= self.after {
            return TakenOver::lost(id);
        }
        self.inner.append(id, record, state).await
    }

    async fn ready(&self, id: &str, length: u64) -> Result<(), StoreError> {
        if self.late && length > self.after {
            return TakenOver::lost(id);
        }
        Ok(())
    }

    async fn log(&self, id: &str) -> Result<Vec<Record>, StoreError> {
        self.inner.log(id).await
    }

    async fn find(&self, id: &str) -> Result<Option<outlast_saga::store::Listed>, StoreError> {
        self.inner.find(id).await
    }

    async fn list(
        &self,
        state: Option<State>,
        after: i64,
        most: usize,
    ) -> Result<Vec<outlast_saga::store::Listed>, StoreError> {
        self.inner.list(state, after, most).await
    }

    async fn forget(&self, before: Stamp, most: usize) -> Result<usize, StoreError> {
        self.inner.forget(before, most).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_another_runner_has_taken_over_is_dropped() {
    let check = async |after: u64, late: bool, expected: &[&str], length: usize| {
        let ledger = Ledger::default();
        let inner = Arc::new(Memory::new());
        let store = TakenOver { inner, after, late };
        let flow = flow(&ledger, |attempt| async move { Ok(attempt.number()) });
        let runner = Runner::new(store, [flow], Limits::default()).unwrap();
        runner.start("order", "o-1", 7).await.unwrap();
        // Not what was thought of here, but what the store knows.
        assert_eq!(runner.rests("o-1").await, Ok(State::Open), "{after} {late}");
        assert_eq!(runner.in_flight(), 0);
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(lines(&ledger), expected, "{after} {late}");
        assert_eq!(runner.store().log("o-1").await.unwrap().len(), length);
    };
    // Nothing is done of which the record was refused, and nothing that may not begin any more.
    check(0, true, &[], 1).await;
    check(1, false, &["o-1/reserve"], 1).await;
    check(1, true, &["o-1/reserve"], 2).await;
    check(2, false, &["o-1/reserve", "o-1/charge"], 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_holds_up_no_other_saga() {
    let ledger = Ledger::default();
    let store = Memory::new();
    let flow = || flow(&ledger, |attempt| async move { Ok(attempt.number()) });
    for id in ["bad", "good"] {
        let hash = flow().definition().hash();
        let began = outlast_saga::Event::Began {
            definition: "order".to_owned(),
            version: 1,
            hash: hash.clone(),
            input: serde_json::json!(7),
        };
        let undone = outlast_saga::Event::Undone { step: 0 };
        let mut events = vec![began];
        events.extend((id == "bad").then_some(undone));
        let saga = outlast_saga::store::NewSaga {
            id: id.to_owned(),
            definition: "order".to_owned(),
            version: 1,
            hash,
            input_hash: String::new(),
            record: Record {
                seq: 0,
                at: Stamp(1),
                events,
            },
            state: State::Open,
        };
        store.begin(saga).await.unwrap();
    }
    let runner = Runner::new(store, [flow()], Limits::default()).unwrap();
    let error = runner.resume().await.unwrap_err().to_string();
    assert!(error.contains("bad"), "{error}");
    assert_eq!(runner.rests("good").await, Ok(State::Completed));
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_go_on_after_their_process_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    let ledger = Ledger::default();
    let hangs = flow(&ledger, |_| std::future::pending());
    let store = Sqlite::open(&path).unwrap();
    let runtime = std::thread::spawn({
        move || {
            // A runtime that is dropped takes its tasks with it.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let runner = Runner::new(store, [hangs], Limits::default()).unwrap();
                for number in 0..50 {
                    runner
                        .start("order", &format!("o-{number}"), number)
                        .await
                        .unwrap();
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            });
        }
    });
    runtime.join().unwrap();
    let goes = flow(&ledger, |attempt| async move { Ok(attempt.number()) });
    let runner = Runner::new(Sqlite::open(&path).unwrap(), [goes], Limits::default()).unwrap();
    let resumed = runner.resume().await.unwrap();
    assert_eq!((resumed.sagas, resumed.blocked.len()), (50, 0));
    for number in 0..50 {
        let id = format!("o-{number}");
        assert_eq!(runner.rests(&id).await, Ok(State::Completed));
        let charged = lines(&ledger)
            .iter()
            .filter(|key| **key == format!("{id}/charge"))
            .count();
        assert!(charged >= 1, "{id}");
    }
    drop(runner);
    // The last saga is about to let go of the file.
    let end = std::time::Instant::now() + 10 * SECOND;
    let store = loop {
        match Sqlite::open(&path) {
            Ok(store) => break store,
            Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // A version that is gone is told, and nothing else happens to its sagas.
    let runner = Runner::new(store, [], Limits::default()).unwrap();
    assert_eq!(runner.resume().await.unwrap().sagas, 0);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_blocks_its_sagas_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sagas.db");
    let ledger = Ledger::default();
    let hangs = || flow(&ledger, |_| std::future::pending());
    {
        let runner =
            Runner::new(Sqlite::open(&path).unwrap(), [hangs()], Limits::default()).unwrap();
        runner.start("order", "old", 1).await.unwrap();
        tokio::task::yield_now().await;
    }
    // The tasks of the runner hold its store until this runtime ends; another file will do.
    let copy = folder.path().join("copy.db");
    let source = rusqlite::Connection::open(&path).unwrap();
    source
        .execute("VACUUM INTO ?1", [copy.to_str().unwrap()])
        .unwrap();
    let another = Flow::new("order", 2).step(step("only"), |_| async { Ok(1) });
    let runner = Runner::new(Sqlite::open(&copy).unwrap(), [another], Limits::default()).unwrap();
    let resumed = runner.resume().await.unwrap();
    assert_eq!(resumed.sagas, 0);
    let blocked: Vec<_> = resumed
        .blocked
        .iter()
        .map(|one| (one.definition.version, one.sagas, &*one.first))
        .collect();
    assert_eq!(blocked, [(1, 1, &["old".to_owned()][..])]);
    assert_eq!(
        runner.cancel("old", "ann", "?").await,
        Err(ControlError::Blocked)
    );
    assert_eq!(runner.start("order", "new", 1).await, Ok(Started::New));
    assert_eq!(runner.rests("new").await, Ok(State::Completed));
}

#[tokio::test]
async fn many_that_are_blocked_are_counted_and_the_first_are_named() {
    let store = Memory::new();
    for number in 0..50 {
        let version = if number % 2 == 0 { 1 } else { 2 };
        let new = outlast_saga::store::NewSaga {
            version,
            ..crate::conformance::new(&format!("o-{number}"), "1")
        };
        store.begin(new).await.unwrap();
    }
    let other = Flow::new("other", 1).step(step("only"), |_| async { Ok(1) });
    let runner = Runner::new(store, [other], Limits::default()).unwrap();
    let resumed = runner.resume().await.unwrap();
    assert_eq!((resumed.sagas, resumed.blocked.len()), (0, 2));
    for (blocked, version) in resumed.blocked.iter().zip([1, 2]) {
        assert_eq!((blocked.definition.version, blocked.sagas), (version, 25));
        assert_eq!(blocked.first.len(), 20);
        assert_eq!(blocked.first[1], format!("o-{}", version + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_without_its_log_is_known_by_where_it_ended() {
    let order = Flow::new("order", 1).step(step("only"), |_| async { Ok(1) });
    let hangs = Flow::new("hangs", 1).step(step("only"), |_| {
        std::future::pending::<Result<u32, StepError>>()
    });
    let limits = Limits {
        running: 1.try_into().unwrap(),
        ..Limits::default()
    };
    let runner = Runner::new(Memory::new(), [order, hangs], limits).unwrap();
    assert_eq!(runner.start("order", "old", 1).await, Ok(Started::New));
    assert_eq!(runner.rests("old").await, Ok(State::Completed));
    assert_eq!(runner.store().compact(Stamp(u64::MAX), 9).await, Ok(1));

    assert_eq!(runner.rests("old").await, Ok(State::Completed));
    assert_eq!(runner.start("order", "old", 1).await, Ok(Started::Same));
    assert_eq!(
        runner.start("order", "old", 2).await,
        Err(StartError::Other)
    );
    let dropped = Err(ControlError::LogDropped);
    assert_eq!(runner.look("old").await.map(drop), dropped);
    assert_eq!(runner.cancel("old", "ann", "?").await, dropped);
    let handled = runner.handle("old", "only", Hand::Retry, "ann", "?").await;
    assert_eq!(handled, dropped);
    assert_eq!(runner.resume().await.unwrap().sagas, 0);

    // When no more may run, a start that is repeated is still known.
    assert_eq!(runner.start("hangs", "long", 1).await, Ok(Started::New));
    assert_eq!(runner.start("order", "new", 1).await, Err(StartError::Busy));
    assert_eq!(runner.start("order", "old", 1).await, Ok(Started::Same));
    assert_eq!(
        runner.start("order", "old", 2).await,
        Err(StartError::Other)
    );
}

/// Leaves so many sagas with nobody who goes on with them; when another runner begins their steps.
async fn begun_again(sagas: usize, limits: Limits) -> Vec<Duration> {
    let inner = Arc::new(Memory::new());
    let start = tokio::time::Instant::now();
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let flow = || {
        let times = Arc::clone(&times);
        Flow::new("order", 1).step(step("only"), move |_| {
            times.lock().unwrap().push(start.elapsed());
            async { Ok(1) }
        })
    };
    let runner = |after: u64| {
        let inner = Arc::clone(&inner);
        let late = after == 0;
        Runner::new(TakenOver { inner, after, late }, [flow()], limits).unwrap()
    };
    let (stopped, goes_on) = (runner(0), runner(u64::MAX));
    for number in 0..sagas {
        let id = number.to_string();
        stopped.start("order", &id, number).await.unwrap();
        assert_eq!(stopped.rests(&id).await, Ok(State::Open));
    }
    assert!(times.lock().unwrap().is_empty());
    assert_eq!(goes_on.resume().await.unwrap().sagas, sagas);
    for number in 0..sagas {
        let id = number.to_string();
        assert_eq!(goes_on.rests(&id).await, Ok(State::Completed));
    }
    let mut times = times.lock().unwrap().clone();
    times.sort();
    times
}

#[tokio::test(start_paused = true)]
async fn by_default_a_hundred_thousand_are_resumed_within_ten_seconds() {
    let times = begun_again(2600, Limits::default()).await;
    // Each waits for the backoff of its step first: nobody knows of the attempt before.
    let all = (times[2599] - times[0]) * 100_000 / 2600;
    assert!(
        all <= 8 * SECOND,
        "that leaves too little to open the file: {all:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn steps_of_a_group_run_at_once_and_are_undone_one_by_one() {
    let ledger = Ledger::default();
    let slow = |name: &'static str, wait: u64| {
        let ledger = Arc::clone(&ledger);
        move |_: Attempt| {
            let ledger = Arc::clone(&ledger);
            async move {
                tokio::time::sleep(SECOND * wait as u32).await;
                note(&ledger, name);
                Ok(())
            }
        }
    };
    let undo = || Undo::new().tries(Tries::new(1));
    let flow = Flow::new("order", 1)
        .at_once(|group| {
            group
                .step_with_undo(step("a").undo(undo()), slow("a", 3), slow("undo a", 0))
                .step_with_undo(step("b").undo(undo()), slow("b", 1), slow("undo b", 0))
        })
        .step(step("c"), |_| async {
            Err::<(), _>(StepError::permanent("no"))
        });
    let runner = runner(flow);
    let began = tokio::time::Instant::now();
    runner.start("order", "1", 5).await.unwrap();
    assert_eq!(runner.rests("1").await, Ok(State::Compensated));
    assert_eq!(began.elapsed(), 3 * SECOND);
    assert_eq!(lines(&ledger), ["b", "a", "undo b", "undo a"]);
    let (listed, saga) = runner.look("1").await.unwrap();
    assert_eq!(listed.state, State::Compensated);
    assert_eq!(saga.steps().len(), 3);
    assert_eq!(runner.look("2").await.unwrap_err(), ControlError::NoSaga);
}

#[test]
fn another_source_is_another_definition() {
    let flow = |source: &str| flow(&Ledger::default(), |_| async { Ok(1) }).source(source);
    let hash = |source: &str| flow(source).definition().hash();
    assert_eq!(hash("a"), hash("a"));
    assert_ne!(hash("a"), hash("b"));
    // Also if somebody has asked before.
    let asked = flow("a");
    assert_eq!(asked.definition().hash(), hash("a"));
    assert_eq!(asked.clone().source("b").definition().hash(), hash("b"));
    let changed = asked.deadline(SECOND);
    assert_ne!(changed.definition().hash(), hash("a"));
    assert_eq!(
        changed.definition().hash(),
        flow("a").deadline(SECOND).definition().hash()
    );
}

/// What a query says, in its turn.
#[derive(Clone, Copy)]
enum Says {
    Done,
    Large,
    NotDone,
    Nothing,
    Panics,
    Never,
}

#[tokio::test(start_paused = true)]
async fn whoever_is_asked_decides_how_it_goes_on() {
    let check = async |says: &'static [Says], state: State, expected: &[&str]| {
        let ledger = Ledger::default();
        let acts = |what: &'static str| {
            let ledger = Arc::clone(&ledger);
            move |attempt: Attempt| {
                note(&ledger, format!("{what} {}", attempt.key()));
                async move { Err::<(), _>(StepError::unknown("cut")) }
            }
        };
        let (asked, undone) = (Arc::clone(&ledger), Arc::clone(&ledger));
        let turn = Arc::new(AtomicU32::new(0));
        let whether = move |attempt: Attempt| {
            note(
                &asked,
                format!("ask {} {}", attempt.key(), attempt.number()),
            );
            let says = says[turn.fetch_add(1, Ordering::Relaxed) as usize];
            async move {
                match says {
                    Says::Done => Ok(Was::Done("receipt".to_owned())),
                    Says::Large => Ok(Was::Done("x".repeat(2000))),
                    Says::NotDone => Ok(Was::NotDone),
                    Says::Nothing => std::future::pending().await,
                    Says::Panics => panic!("in the query"),
                    Says::Never => Err(StepError::permanent("nobody keeps it")),
                }
            }
        };
        let query = Query::new()
            .timeout(SECOND)
            .tries(Tries::new(2).backoff(SECOND));
        let charge = Step::new("charge")
            .tries(Tries::new(2).backoff(SECOND))
            .undo(Undo::new())
            .on_unknown(OnUnknown::Query(query));
        let flow = Flow::new("pay", 1)
            .step_with_undo(charge, acts("do"), move |attempt| {
                note(&undone, attempt.key());
                async { Ok(()) }
            })
            .query(whether)
            .step(step("ship"), |attempt: Attempt| async move {
                let receipt: Option<String> = attempt.output("charge")?;
                Ok(receipt)
            });
        let limits = Limits {
            bytes: 1000,
            ..Limits::default()
        };
        let runner = Runner::new(Memory::new(), [flow], limits).unwrap();
        runner.start("pay", "1", 1).await.unwrap();
        assert_eq!(runner.rests("1").await, Ok(state));
        assert_eq!(lines(&ledger), expected);
        let (_, saga) = runner.look("1").await.unwrap();
        saga.steps()[1].output.clone()
    };
    let shipped = check(
        &[Says::Done],
        State::Completed,
        &["do 1/charge", "ask 1/charge 1"],
    );
    assert_eq!(shipped.await, Some(json!("receipt")));
    check(
        &[Says::Nothing, Says::Done],
        State::Completed,
        &["do 1/charge", "ask 1/charge 1", "ask 1/charge 2"],
    )
    .await;
    // Not done twice: there is nothing to undo.
    check(
        &[Says::NotDone, Says::Panics, Says::NotDone],
        State::Compensated,
        &[
            "do 1/charge",
            "ask 1/charge 1",
            "do 1/charge",
            "ask 1/charge 1",
            "ask 1/charge 2",
        ],
    )
    .await;
    check(
        &[Says::Large, Says::Nothing],
        State::Compensated,
        &[
            "do 1/charge",
            "ask 1/charge 1",
            "ask 1/charge 2",
            "1/charge/undo",
        ],
    )
    .await;
    check(
        &[Says::Never],
        State::Compensated,
        &["do 1/charge", "ask 1/charge 1", "1/charge/undo"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_given_by_hand_is_there_for_later_steps() {
    let flow = || {
        Flow::new("order", 1)
            .step(step("charge").pivot(), |_| async { Ok(1) })
            .step(step("ship"), |_| async {
                Err::<Value, _>(StepError::permanent("no such street"))
            })
            .step(step("notify"), |attempt: Attempt| async move {
                let parcel: Option<u32> = attempt.output("ship")?;
                Ok(parcel)
            })
    };
    let check = async |how: Hand, output: Option<Value>, at: At, told: Value| {
        let runner = runner(flow());
        runner.start("order", "o-1", 7).await.unwrap();
        assert_eq!(runner.rests("o-1").await, Ok(State::Waiting));
        runner
            .handle_giving("o-1", "ship", how, output, "ann", "by hand")
            .await
            .unwrap();
        assert_eq!(runner.rests("o-1").await, Ok(State::Completed));
        let (_, saga) = runner.look("o-1").await.unwrap();
        assert_eq!(saga.steps()[1].at, at);
        assert_eq!(saga.steps()[2].output, Some(told));
    };
    check(Hand::Skip, None, At::Skipped, Value::Null).await;
    check(Hand::Skip, Some(json!(7)), At::Skipped, json!(7)).await;
    check(Hand::Resolve, Some(json!(7)), At::Done, json!(7)).await;
    let limits = Limits {
        bytes: 100,
        ..Limits::default()
    };
    let runner = Runner::new(Memory::new(), [flow()], limits).unwrap();
    runner.start("order", "o-1", 7).await.unwrap();
    runner.rests("o-1").await.unwrap();
    let large = Some(json!("x".repeat(200)));
    let refused = runner.handle_giving("o-1", "ship", Hand::Skip, large, "ann", "?");
    let error = refused.await.unwrap_err().to_string();
    assert_eq!(error, "the output has 202 bytes, and 100 are allowed");
    let refused = runner.handle("o-1", "charge", Hand::Skip, "ann", "?").await;
    let error = refused.unwrap_err().to_string();
    assert_eq!(error, "`charge` does not wait for anybody");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_full_waits_for_somebody() {
    let flow = || {
        let never = Step::new("ship").tries(Tries::new(1000).backoff(SECOND));
        Flow::new("order", 1).step(never, |_| async {
            Err::<Value, _>(StepError::transient("not yet"))
        })
    };
    let limits = Limits {
        records: 20.try_into().unwrap(),
        ..Limits::default()
    };
    let runner = Runner::new(Memory::new(), [flow()], limits).unwrap();
    runner.start("order", "o-1", 7).await.unwrap();
    assert_eq!(runner.rests("o-1").await, Ok(State::Waiting));
    let mut times = 0;
    loop {
        let retried = runner
            .handle("o-1", "ship", Hand::Retry, "ann", "again")
            .await;
        let Err(error) = retried else {
            assert_eq!(runner.rests("o-1").await, Ok(State::Waiting));
            times += 1;
            continue;
        };
        assert!(
            error.to_string().contains("may have no more attempts"),
            "{error}"
        );
        break;
    }
    assert_eq!(times, 2, "ten more records each, and twenty in all");
    let length = runner.store().log("o-1").await.unwrap().len();
    assert!((40..=43).contains(&length), "{length}");
    runner
        .handle("o-1", "ship", Hand::Skip, "ann", "by car")
        .await
        .unwrap();
    assert_eq!(runner.rests("o-1").await, Ok(State::Completed));
}
