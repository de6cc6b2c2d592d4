//! How many retries all sagas of a definition make together, in virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use outlast_core::budget;
use outlast_core::ratio::Ratio;
use outlast_saga::store::{Memory, State, Store};
use outlast_saga::{Attempt, Flow, Limits, Runner, Step, StepError, Tries, Undo};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Attempts of a step: when they began, whether they are retries, and whether they succeeded.
#[derive(Default)]
struct Seen(Mutex<Vec<(Instant, bool, bool)>>);

impl Seen {
    /// A service that fails for so long, from now on.
    fn fails_for(
        self: &Arc<Seen>,
        outage: Duration,
    ) -> impl Fn(Attempt) -> std::future::Ready<Result<(), StepError>> + Send + Sync + 'static {
        let (seen, end) = (Arc::clone(self), Instant::now() + outage);
        move |attempt| {
            let now = Instant::now();
            let succeeds = now >= end;
            let entry = (now, attempt.number() > 1, succeeds);
            seen.0.lock().unwrap().push(entry);
            std::future::ready(match succeeds {
                true => Ok(()),
                false => Err(StepError::transient("it is away")),
            })
        }
    }

    /// The most retries of any stretch of time of this length that begins with one, beside a share of
    /// the successes in a stretch that is shorter by a tenth, as budgets remember them.
    fn most_beyond(&self, window: Duration, share: f64) -> f64 {
        let seen = self.0.lock().unwrap();
        let mut most = 0.0_f64;
        let (mut from, mut retries, mut successes) = (0, 0, 0_u32);
        for (at, retry, succeeds) in &*seen {
            while seen[from].0 + window <= *at {
                retries -= u32::from(seen[from].1);
                successes -= u32::from(seen[from].2);
                from += 1;
            }
            retries += u32::from(*retry);
            most = most.max(f64::from(retries) - share * f64::from(successes));
            successes += u32::from(*succeeds);
        }
        most
    }

    fn retries(&self) -> usize {
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|(_, retry, _)| *retry).count()
    }
}

fn done(_: Attempt) -> std::future::Ready<Result<(), StepError>> {
    std::future::ready(Ok(()))
}

async fn ended(runner: &Runner<Memory>, state: State, count: usize) {
    loop {
        let ended = runner.store().list(Some(state), 0, count + 1).await;
        if ended.unwrap().len() == count {
            return;
        }
        tokio::time::sleep(10 * SECOND).await;
    }
}

/// A thousand orders need a service that is away for ten minutes.
#[tokio::test(start_paused = true)]
async fn retries_of_a_step_stay_within_their_budget_and_all_sagas_end() {
    let seen = Arc::new(Seen::default());
    let budget = budget::Config::new(Ratio::percent(20))
        .window(10 * SECOND)
        .reserve(100);
    let ship = Step::new("ship")
        .tries(Tries::new(1000).backoff(5 * SECOND))
        .budget(budget);
    let flow = Flow::new("order", 1)
        .step(Step::new("create"), done)
        .step(Step::new("reserve"), done)
        .step(Step::new("charge"), done)
        .step(ship, seen.fails_for(600 * SECOND))
        .step(Step::new("notify").best_effort(), done);
    let runner = Runner::new(Memory::new(), [flow], Limits::default()).unwrap();
    let before = Instant::now();
    for number in 0..1000 {
        let id = format!("o-{number}");
        runner.start("order", &id, 1).await.unwrap();
    }
    ended(&runner, State::Completed, 1000).await;
    let took = before.elapsed();
    let most = seen.most_beyond(10 * SECOND, 0.2);
    assert!(most <= 100.0, "{most} in ten seconds");
    // The budget is used: nobody waits for nothing.
    assert!(seen.retries() > 4000, "{}", seen.retries());
    assert!(
        (600..800).contains(&took.as_secs()),
        "a thousand at ten a second and more: {took:?}"
    );
    let overview = runner.overview();
    let (name, left) = &overview[0].left[3];
    assert_eq!(name, "ship");
    assert!(left.held > 1000, "{left:?}");
    assert_eq!(overview[0].done.completed, 1000);
    assert_eq!(runner.in_flight(), 0);
}

/// A refund service is away for ten minutes: what undoes takes turns, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn retries_of_what_undoes_take_turns() {
    let seen = Arc::new(Seen::default());
    let undo = Undo::new()
        .tries(Tries::new(1000).backoff(SECOND))
        .retries_a_second(20.try_into().unwrap());
    let flow = Flow::new("order", 1)
        .step_with_undo(
            Step::new("charge").undo(undo),
            done,
            seen.fails_for(600 * SECOND),
        )
        .step(Step::new("ship"), |_| async {
            Err::<(), _>(StepError::permanent("too heavy"))
        });
    let runner = Runner::new(Memory::new(), [flow], Limits::default()).unwrap();
    let before = Instant::now();
    for number in 0..1000 {
        let id = format!("o-{number}");
        runner.start("order", &id, 1).await.unwrap();
    }
    ended(&runner, State::Compensated, 1000).await;
    let took = before.elapsed();
    // Evenly: no second has more than its share.
    let most = seen.most_beyond(SECOND, 0.0);
    assert!(most <= 21.0, "{most} in a second");
    assert!(seen.retries() > 11_000, "{}", seen.retries());
    assert!((600..680).contains(&took.as_secs()), "{took:?}");
    assert_eq!(runner.overview()[0].done.dead_letters, 0);
}

/// A step that is best effort does not make sagas wait.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_best_effort_is_given_up_when_the_budget_is_empty() {
    let seen = Arc::new(Seen::default());
    let budget = budget::Config::new(Ratio::percent(20)).reserve(5);
    let notify = Step::new("notify")
        .best_effort()
        .tries(Tries::new(3).backoff(SECOND))
        .budget(budget);
    let flow = Flow::new("order", 1).step(notify, seen.fails_for(3600 * SECOND));
    let runner = Runner::new(Memory::new(), [flow], Limits::default()).unwrap();
    let before = Instant::now();
    for number in 0..100 {
        let id = format!("o-{number}");
        runner.start("order", &id, 1).await.unwrap();
    }
    ended(&runner, State::Completed, 100).await;
    assert_eq!(seen.retries(), 5);
    assert!(before.elapsed() < 11 * SECOND, "{:?}", before.elapsed());
}

/// A budget that is only counted lets everybody pass, and a change of it is no new definition.
#[tokio::test(start_paused = true)]
async fn bounds_may_be_changed_without_a_new_version() {
    let flow = |step: Step| Flow::new("order", 1).step_with_undo(step, done, done);
    let usual = flow(Step::new("a").undo(Undo::new()));
    let counted = budget::Config::default().reserve(0).enforce(false);
    let one = 1.try_into().unwrap();
    let other = Step::new("a").budget(counted);
    let other = flow(other.undo(Undo::new().retries_a_second(one)));
    assert_eq!(usual.definition().hash(), other.definition().hash());

    let seen = Arc::new(Seen::default());
    let step = Step::new("a")
        .tries(Tries::new(3).backoff(SECOND))
        .budget(counted);
    let flow = Flow::new("order", 1).step(step, seen.fails_for(60 * SECOND));
    let runner = Runner::new(Memory::new(), [flow], Limits::default()).unwrap();
    runner.start("order", "o", 1).await.unwrap();
    assert_eq!(runner.rests("o").await, Ok(State::Compensated));
    assert_eq!(seen.retries(), 2);

    let wrong = budget::Config::default().reserve(10_001);
    let wrong = Flow::new("order", 1).step(Step::new("a").budget(wrong), done);
    let error = Runner::new(Memory::new(), [wrong], Limits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`a`: budget.reserve may be at most 10,000"
    );
}
