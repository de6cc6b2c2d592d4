//! Days of a shop in virtual time: outages of minutes and hours.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_saga::store::{Memory, State, Store};
use outlast_saga::{Attempt, Flow, Hand, Limits, OnUnknown, Runner, Step, StepError, Tries, Undo};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What was done, and how long after the start.
type Book = Arc<Mutex<Vec<(String, Duration)>>>;

fn keys(book: &Book) -> Vec<String> {
    let book = book.lock().unwrap();
    book.iter().map(|(key, _)| key.clone()).collect()
}

/// Reserves, charges, and cannot ship; refunds when `is_up` says so of the time since the start.
fn order(
    book: &Book,
    undo: Undo,
    is_up: impl Fn(Duration) -> bool + Send + Sync + 'static,
) -> Flow {
    let began = Instant::now();
    let note = |book: &Book| {
        let book = Arc::clone(book);
        move |attempt: Attempt| {
            book.lock().unwrap().push((attempt.key(), began.elapsed()));
            async { Ok(()) }
        }
    };
    let noted = Arc::clone(book);
    let refund = move |attempt: Attempt| {
        let is_up = is_up(began.elapsed());
        if is_up {
            noted.lock().unwrap().push((attempt.key(), began.elapsed()));
        }
        async move {
            let away = StepError::transient("the refund service is away");
            if is_up { Ok(()) } else { Err(away) }
        }
    };
    Flow::new("order", 1)
        .step_with_undo(
            Step::new("reserve").undo(Undo::new()),
            note(book),
            note(book),
        )
        .step_with_undo(Step::new("charge").undo(undo), note(book), refund)
        .step(Step::new("ship"), |_| async {
            Err::<(), _>(StepError::permanent("no road"))
        })
}

fn runner(flow: Flow) -> Runner<Memory> {
    Runner::new(Memory::new(), [flow], Limits::default()).unwrap()
}

/// Nobody configured anything for it.
#[tokio::test(start_paused = true)]
async fn a_refund_happens_when_its_service_comes_back_after_ten_minutes() {
    let book = Book::default();
    let runner = runner(order(&book, Undo::new(), |since| since >= 10 * MINUTE));
    runner.start("order", "o", 1).await.unwrap();
    assert_eq!(runner.rests("o").await, Ok(State::Compensated));
    assert_eq!(
        keys(&book),
        ["o/reserve", "o/charge", "o/charge/undo", "o/reserve/undo"]
    );
    let refunded = book.lock().unwrap()[2].1;
    assert!(
        refunded >= 10 * MINUTE && refunded <= 11 * MINUTE,
        "{refunded:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_is_given_up_is_a_dead_letter_that_somebody_resolves() {
    let book = Book::default();
    let undo = Undo::new().tries(Tries::new(5).backoff(SECOND));
    let runner = runner(order(&book, undo, |_| false));
    runner.start("order", "o", 1).await.unwrap();
    assert_eq!(runner.rests("o").await, Ok(State::Waiting));
    // The others are undone all the same.
    assert_eq!(keys(&book), ["o/reserve", "o/charge", "o/reserve/undo"]);
    tokio::time::sleep(24 * 60 * MINUTE).await;
    assert_eq!(
        runner.rests("o").await,
        Ok(State::Waiting),
        "it is not dropped"
    );
    let why = "refunded at the counter";
    runner
        .handle("o", "charge", Hand::Resolve, "ann", why)
        .await
        .unwrap();
    assert_eq!(runner.rests("o").await, Ok(State::Compensated));
    let (_, saga) = runner.look("o").await.unwrap();
    assert!(!saga.needs_somebody());
    let told = log(&runner, "o").await;
    for part in ["the refund service is away", "ann", why] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// The inventory takes ten seconds and is given five: nobody is charged, and what it may have reserved
/// is given back.
#[tokio::test(start_paused = true)]
async fn a_flash_sale_charges_nobody_whose_item_takes_too_long() {
    for how in [OnUnknown::Retry, OnUnknown::Compensate] {
        let book = Book::default();
        let note = |word: &'static str| {
            let book = Arc::clone(&book);
            move |attempt: Attempt| {
                let key = format!("{word} {}", attempt.saga());
                book.lock().unwrap().push((key, Duration::ZERO));
                async { Ok(()) }
            }
        };
        let slow = |attempt: Attempt| async move {
            let _: u32 = attempt.input()?;
            tokio::time::sleep(10 * SECOND).await;
            Ok(())
        };
        let reserve = Step::new("reserve")
            .timeout(5 * SECOND)
            .on_unknown(how)
            .undo(Undo::new());
        let flow = Flow::new("sale", 1)
            .step_with_undo(reserve, slow, note("give back"))
            .step(Step::new("charge").pivot(), note("charge"));
        let runner = runner(flow);
        for number in 0..500 {
            runner
                .start("sale", &format!("s-{number}"), number)
                .await
                .unwrap();
        }
        for number in 0..500 {
            let state = runner.rests(&format!("s-{number}")).await;
            assert_eq!(state, Ok(State::Compensated));
        }
        let mut done = keys(&book);
        done.sort();
        let mut expected: Vec<_> = (0..500)
            .map(|number| format!("give back s-{number}"))
            .collect();
        expected.sort();
        assert_eq!(done, expected, "each once, and nothing else");
    }
}

/// It is given up and undone, or waits for somebody behind a pivot; others do not notice.
#[tokio::test(start_paused = true)]
async fn a_step_that_always_panics_harms_no_other_saga() {
    for (is_behind, expected) in [(false, State::Compensated), (true, State::Waiting)] {
        let first = Step::new("first").undo(Undo::new());
        let first = if is_behind { first.pivot() } else { first };
        let poison = |attempt: Attempt| {
            let is_poison: bool = attempt.input().unwrap();
            assert!(!is_poison, "it is poison");
            async { Ok(()) }
        };
        let flow = Flow::new("order", 1)
            .step_with_undo(first, |_| async { Ok(()) }, |_| async { Ok(()) })
            .step(Step::new("second"), poison);
        let runner = runner(flow);
        for number in 0..20 {
            let id = format!("o-{number}");
            runner.start("order", &id, number % 2 == 0).await.unwrap();
        }
        for number in 0..20 {
            let id = format!("o-{number}");
            let is_poison = number % 2 == 0;
            let state = if is_poison {
                expected
            } else {
                State::Completed
            };
            assert_eq!(runner.rests(&id).await, Ok(state), "{id}");
            let told = log(&runner, &id)
                .await
                .contains("it panicked: it is poison");
            assert_eq!(told, is_poison);
        }
        assert_eq!(runner.in_flight(), 0);
    }
}

/// Everything a log says.
async fn log(runner: &Runner<Memory>, id: &str) -> String {
    format!("{:?}", runner.store().log(id).await.unwrap())
}
