use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::pace::BURST_SECONDS;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A machine with its driver: what it begins, and what is on the disk.
struct Stage {
    machine: Machine,
    now: Stamp,
    last: i64,
    /// By place: attempts under way.
    busy: BTreeMap<i64, u32>,
}

impl Stage {
    fn new(attempts: u32, concurrency: usize, (slowest, fastest): (f64, f64)) -> Stage {
        let now = Stamp(1_000_000);
        let tries = Tries::new(attempts).backoff(SECOND);
        let pace = Pace::new(slowest, fastest, now);
        Stage {
            machine: Machine::new(tries, concurrency, pace),
            now,
            last: 0,
            busy: BTreeMap::new(),
        }
    }

    fn quick() -> Stage {
        Stage::new(3, 2, (1000.0, 1000.0))
    }

    fn push(&mut self, key: &str) {
        self.push_for(key, 3600 * SECOND);
    }

    fn push_for(&mut self, key: &str, age: Duration) -> i64 {
        self.last += 1;
        self.machine.insert(Waiting {
            place: self.last,
            key: Some(key).filter(|key| !key.is_empty()).map(Arc::from),
            size: 10,
            attempts: 0,
            pushed: self.now,
            due: self.now,
            expires: self.now.after(age),
        });
        self.last
    }

    /// What is begun now, after so long: `1.2` is attempt 2 of message 1, `-3` that message 3 is too
    /// old.
    fn pass(&mut self, time: Duration) -> String {
        self.now = self.now.after(time);
        let mut said = Vec::new();
        loop {
            match self.machine.next(self.now, true) {
                Next::Begin { place, attempt } => {
                    self.busy.insert(place, attempt);
                    said.push(format!("{place}.{attempt}"));
                }
                Next::Expire { place, attempts } => {
                    self.busy.insert(place, attempts);
                    said.push(format!("-{place}"));
                }
                Next::GiveUp { place, attempts } => {
                    self.busy.insert(place, attempts);
                    said.push(format!("-{place}.{attempts}"));
                }
                Next::Wait(_) => return said.join(" "),
            }
            // Each has its token.
            self.now = self.now.after(Duration::from_millis(1));
        }
    }

    fn decide(&mut self, place: i64, came: Result<(), DeliveryError>) -> Verdict {
        self.machine.ended(place, came, self.now)
    }

    fn write(&mut self, place: i64, verdict: &Verdict) {
        let attempt = self.busy.remove(&place).unwrap();
        self.machine.apply(place, attempt, verdict);
    }

    fn end(&mut self, place: i64, came: Result<(), DeliveryError>) -> Verdict {
        let verdict = self.decide(place, came);
        self.write(place, &verdict);
        verdict
    }
}

fn busy() -> Result<(), DeliveryError> {
    Err(DeliveryError::transient("busy"))
}

#[test]
fn one_of_each_key_and_all_without_one() {
    let mut stage = Stage::new(3, 10, (1000.0, 1000.0));
    for key in ["a", "a", "b", "", "", "b"] {
        stage.push(key);
    }
    assert_eq!(stage.pass(SECOND), "1.1 3.1 4.1 5.1");
    let verdict = stage.decide(1, Ok(()));
    assert_eq!(stage.pass(SECOND), "", "it is not on the disk");
    stage.write(1, &verdict);
    assert_eq!(stage.pass(SECOND), "2.1");
    stage.end(3, Ok(()));
    assert_eq!(stage.pass(SECOND), "6.1");
    assert_eq!((stage.machine.len(), stage.machine.busy()), (4, 4));
    [2, 4, 5, 6]
        .into_iter()
        .for_each(|place| drop(stage.end(place, Ok(()))));
    assert!(stage.machine.is_empty());
    assert_eq!((stage.machine.bytes(), stage.machine.lanes.len()), (0, 0));
    assert_eq!(stage.machine.next(stage.now, true), Next::Wait(None));
}

#[test]
fn one_that_was_not_made_loses_no_attempt_and_waits_only_for_its_time() {
    let mut stage = Stage::quick();
    stage.push_for("a", 600 * SECOND);
    stage.push("a");
    let away = || Err(DeliveryError::not_made("full"));
    assert_eq!(stage.pass(SECOND), "1.1");
    stage.end(1, busy());
    for _ in 0..10 {
        assert_eq!(stage.pass(10 * SECOND), "1.2", "its key waits behind it");
        let verdict = stage.end(1, away());
        assert!(matches!(verdict, Verdict::Again { attempts: 1, .. }));
    }
    assert_eq!(stage.pass(10 * SECOND), "1.2");
    let later = DeliveryError::not_made_after("full", 20 * SECOND);
    stage.end(1, Err(later));
    assert_eq!(stage.pass(19 * SECOND), "");
    assert_eq!(stage.pass(SECOND), "1.2");
    stage.end(1, away());
    assert_eq!(stage.pass(600 * SECOND), "-1", "it is too old");
}

#[test]
fn no_more_at_once_than_may_be() {
    let mut stage = Stage::quick();
    [""; 4].iter().for_each(|key| stage.push(key));
    assert_eq!(stage.pass(SECOND), "1.1 2.1");
    stage.end(2, Ok(()));
    assert_eq!(stage.pass(SECOND), "3.1");
}

#[test]
fn what_fails_is_tried_again_and_blocks_its_key_only_until_it_is_dead() {
    let mut stage = Stage::quick();
    for key in ["poison", "poison", "b", "b"] {
        stage.push(key);
    }
    assert_eq!(stage.pass(SECOND), "1.1 3.1");
    let due = stage.now.after(SECOND);
    let error = "busy".to_owned();
    let again = Verdict::Again {
        attempts: 1,
        due,
        error,
    };
    assert_eq!(stage.end(1, busy()), again);
    stage.end(3, Ok(()));
    assert_eq!(stage.pass(SECOND / 2), "4.1", "other keys go on");
    assert_eq!(stage.pass(SECOND / 2), "1.2");
    let after = 5 * SECOND;
    let asked = Err(DeliveryError::transient_after("busy", after));
    let due = stage.now.after(after);
    assert!(matches!(stage.end(1, asked), Verdict::Again { due: then, .. } if then == due));
    assert_eq!(stage.pass(4 * SECOND), "");
    assert_eq!(stage.pass(SECOND), "1.3");
    let error = "given up after 3 attempts: cut".to_owned();
    let cut = Err(DeliveryError::unknown("cut"));
    assert_eq!(stage.end(1, cut), Verdict::Dead { error });
    assert_eq!(stage.pass(Duration::ZERO), "2.1");
    let error = "no such address".to_owned();
    let never = Err(DeliveryError::permanent("no such address"));
    assert_eq!(stage.end(2, never), Verdict::Dead { error }, "at once");
}

#[test]
fn what_is_too_old_is_dead_wherever_it_is() {
    let mut stage = Stage::new(3, 2, (1000.0, 1000.0));
    stage.push("a");
    stage.push_for("a", SECOND);
    stage.push("a");
    assert_eq!(stage.pass(Duration::ZERO), "1.1");
    assert_eq!(stage.pass(2 * SECOND), "-2");
    let error = "old".to_owned();
    stage.write(2, &Verdict::Dead { error });
    assert_eq!(stage.pass(SECOND), "", "the first is still under way");
    stage.end(1, Ok(()));
    assert_eq!(stage.pass(SECOND), "3.1");
    let place = stage.push_for("", SECOND);
    let last = stage.now.after(SECOND);
    stage.machine.next(last, false);
    assert_eq!(
        stage.machine.next(last, false),
        Next::Wait(Some(Stamp(last.0 + 1)))
    );
    let late = stage.machine.next(Stamp(last.0 + 1), false);
    assert_eq!(
        late,
        Next::Expire { place, attempts: 0 },
        "also behind a gate"
    );
}

#[test]
fn one_that_comes_back_comes_before_what_was_pushed_later() {
    let mut stage = Stage::quick();
    ["a"; 3].iter().for_each(|key| stage.push(key));
    assert_eq!(stage.pass(SECOND), "1.1");
    stage.end(1, Err(DeliveryError::permanent("no")));
    assert_eq!(stage.pass(SECOND), "2.1");
    let (now, last) = (stage.now, stage.last);
    stage.last = 0;
    stage.push("a");
    assert_eq!(stage.pass(SECOND), "", "another one is under way");
    stage.end(2, Ok(()));
    assert_eq!(stage.pass(SECOND), "1.1", "before the third");
    assert!(stage.now > now && last == 3);
}

#[test]
fn what_nobody_delivers_any_more_waits_again() {
    let mut stage = Stage::quick();
    ["a"; 2].iter().for_each(|key| stage.push(key));
    assert_eq!(stage.pass(SECOND), "1.1");
    stage.machine.abandon();
    assert_eq!(stage.machine.busy(), 0);
    stage.machine.apply(1, 1, &Verdict::Delivered);
    assert_eq!(stage.machine.len(), 2, "it is under way no more");
    assert_eq!(stage.pass(SECOND), "1.2");
    stage.machine.apply(1, 1, &Verdict::Delivered);
    assert_eq!(stage.pass(SECOND), "", "that was another attempt");
    stage.end(1, Ok(()));
    assert_eq!(stage.pass(SECOND), "2.1");
}

#[test]
fn what_ends_its_processes_runs_out_of_attempts() {
    let mut stage = Stage::quick();
    ["a"; 2].iter().for_each(|key| stage.push(key));
    for attempt in 1..=3 {
        assert_eq!(stage.pass(SECOND), format!("1.{attempt}"));
        stage.machine.abandon();
    }
    assert_eq!(stage.pass(SECOND), "-1.3");
    let error = "not known".to_owned();
    stage.write(1, &Verdict::Dead { error });
    assert_eq!(stage.pass(SECOND), "2.1");
}

#[test]
fn behind_a_closed_gate_nothing_begins() {
    let mut stage = Stage::quick();
    stage.push("a");
    let next = stage.machine.next(stage.now, false);
    assert!(matches!(next, Next::Wait(_)), "{next:?}");
    assert_eq!(stage.pass(SECOND), "1.1", "and it has lost no attempt");
}

/// Ten thousand messages of a hundred keys, a receiver that is down for an hour, and comes back.
#[test]
fn a_receiver_that_was_down_for_an_hour_is_not_stampeded() {
    let (slowest, fastest) = (10.0, 200.0);
    let mut stage = Stage::new(1000, 16, (slowest, fastest));
    let begin = stage.now;
    let back = begin.after(3600 * SECOND);
    for number in 0..10_000 {
        stage.push_for(&format!("k{}", number % 100), 7 * 86_400 * SECOND);
    }
    // Everything takes ten milliseconds.
    let mut ends: BTreeMap<Stamp, Vec<i64>> = BTreeMap::new();
    let mut begun = Vec::new();
    let mut delivered = BTreeMap::<i64, Vec<i64>>::new();
    while !stage.machine.is_empty() {
        let next = stage.machine.next(stage.now, true);
        if let Next::Begin { place, attempt } = next {
            stage.busy.insert(place, attempt);
            begun.push(stage.now);
            let end = stage.now.after(Duration::from_millis(10));
            ends.entry(end).or_default().push(place);
            continue;
        }
        let Next::Wait(until) = next else {
            panic!("{next:?}");
        };
        let end = ends.first_key_value().map(|(end, _)| *end);
        stage.now = until.into_iter().chain(end).min().unwrap();
        for place in ends.remove(&stage.now).unwrap_or_default() {
            let is_up = stage.now > back;
            if stage.end(place, if is_up { Ok(()) } else { busy() }) == Verdict::Delivered {
                delivered.entry((place - 1) % 100).or_default().push(place);
            }
        }
    }
    let during = begun.iter().filter(|at| **at <= back).count();
    assert!(
        (30_000..=36_001).contains(&during),
        "{during} attempts in the outage"
    );
    holds_the_pace(&begun, fastest);
    let first = begun
        .iter()
        .filter(|at| **at > back && back.after(SECOND) >= **at);
    assert!(first.count() <= 20, "it starts slowly");
    let took = stage.now.since(back);
    assert!(
        took >= 50 * SECOND,
        "10,000 messages at 200 a second: {took:?}"
    );
    assert!(took <= 70 * SECOND, "and no much longer: {took:?}");
    for (key, places) in delivered {
        let in_order: Vec<_> = (0..100).map(|number| 1 + key + 100 * number).collect();
        assert_eq!(places, in_order);
    }
}

/// No window has more than the fastest pace and a burst allow.
fn holds_the_pace(begun: &[Stamp], fastest: f64) {
    let burst = (fastest * BURST_SECONDS).max(1.0) + 1.0;
    for span in [1, 2, 10, 100, 1000, 5000] {
        for window in begun.windows(span + 1) {
            let seconds = window[span].since(window[0]).as_secs_f64();
            let most = fastest * (seconds + 0.001) + burst;
            assert!(span as f64 <= most, "{} in {seconds} s", span + 1);
        }
    }
}

/// What happens in a course of events.
#[derive(Clone, Debug)]
enum Happens {
    Push(u8),
    PushShort(u8),
    Pass(u16),
    /// One that is under way ends; which one, and how.
    End(u8, u8),
    /// The verdict of one that has ended is on the disk.
    Write(u8),
    Gate(bool),
    Abandon,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0u8..4).prop_map(Happens::Push),
        1 => (0u8..4).prop_map(Happens::PushShort),
        4 => (0u16..700).prop_map(Happens::Pass),
        6 => (any::<u8>(), 0u8..10).prop_map(|(which, how)| Happens::End(which, how)),
        6 => any::<u8>().prop_map(Happens::Write),
        1 => any::<bool>().prop_map(Happens::Gate),
        1 => Just(Happens::Abandon),
    ]
}

/// A naive model beside the machine: a list of messages with where each is.
struct Model {
    stage: Stage,
    /// By place: its key, whether it may be begun, and how it ended.
    known: BTreeMap<i64, (u8, Fate)>,
    ended: Vec<(i64, u32, Verdict)>,
    begun: Vec<Stamp>,
    is_open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Waits,
    Busy,
    Expires,
    Delivered,
    Dead,
}

impl Model {
    fn new() -> Model {
        Model {
            stage: Stage::new(3, 3, (20.0, 100.0)),
            known: BTreeMap::new(),
            ended: Vec::new(),
            begun: Vec::new(),
            is_open: true,
        }
    }

    fn happen(&mut self, what: &Happens) {
        match *what {
            Happens::Push(key) => self.push(key, 3600 * SECOND),
            Happens::PushShort(key) => self.push(key, SECOND),
            Happens::Pass(millis) => {
                let time = Duration::from_millis(u64::from(millis));
                self.stage.now = self.stage.now.after(time);
            }
            Happens::End(which, how) => self.end(which, how),
            Happens::Write(which) => self.write(which),
            Happens::Gate(is_open) => self.is_open = is_open,
            Happens::Abandon => {
                self.stage.machine.abandon();
                self.stage.busy.clear();
                for (_, fate) in self.known.values_mut() {
                    if matches!(fate, Fate::Busy | Fate::Expires) {
                        *fate = Fate::Waits;
                    }
                }
            }
        }
        self.begin();
    }

    fn push(&mut self, key: u8, age: Duration) {
        let name = if key == 0 {
            String::new()
        } else {
            format!("k{key}")
        };
        let place = self.stage.push_for(&name, age);
        self.known.insert(place, (key, Fate::Waits));
    }

    fn end(&mut self, which: u8, how: u8) {
        let has_ended = |place: &i64| self.ended.iter().any(|(ended, ..)| ended == place);
        let under_way = self.stage.busy.iter();
        let under_way = under_way.filter(|(place, _)| !has_ended(place));
        let under_way: Vec<_> = under_way
            .map(|(place, attempt)| (*place, *attempt))
            .collect();
        if under_way.is_empty() {
            return;
        }
        let (place, attempt) = under_way[usize::from(which) % under_way.len()];
        let verdict = match (self.known[&place].1, how) {
            (Fate::Expires, _) => Verdict::Dead {
                error: String::new(),
            },
            (_, 0..=5) => self.stage.decide(place, Ok(())),
            (_, 6) => self
                .stage
                .decide(place, Err(DeliveryError::permanent("no"))),
            (_, 7) => self.stage.decide(place, Err(DeliveryError::unknown("cut"))),
            (_, 8) => self
                .stage
                .decide(place, Err(DeliveryError::not_made("full"))),
            _ => self.stage.decide(place, busy()),
        };
        self.ended.push((place, attempt, verdict));
    }

    fn write(&mut self, which: u8) {
        if self.ended.is_empty() {
            return;
        }
        let (place, attempt, verdict) = self.ended.remove(usize::from(which) % self.ended.len());
        if self.stage.busy.get(&place) != Some(&attempt) {
            // It was abandoned meanwhile: what comes late changes nothing.
            self.stage.machine.apply(place, attempt, &verdict);
            return;
        }
        self.stage.write(place, &verdict);
        self.known.get_mut(&place).unwrap().1 = match verdict {
            Verdict::Delivered => Fate::Delivered,
            Verdict::Again { .. } => Fate::Waits,
            Verdict::Dead { .. } => Fate::Dead,
        };
    }

    fn begin(&mut self) {
        loop {
            let next = self.stage.machine.next(self.stage.now, self.is_open);
            let (place, attempt, fate) = match next {
                Next::Begin { place, attempt } => (place, attempt, Fate::Busy),
                Next::Expire { place, attempts } => (place, attempts, Fate::Expires),
                Next::GiveUp { place, attempts } => (place, attempts, Fate::Expires),
                Next::Wait(_) => return,
            };
            let (key, before) = self.known[&place];
            assert_eq!(before, Fate::Waits, "{place} was not waiting");
            if fate == Fate::Busy {
                assert!(self.is_open, "the gate was closed");
                assert!(attempt <= 3, "no more than may be");
                let mut former = self.known.range(..place).filter(|_| key != 0);
                let is_before = |(_, (other, fate)): &(&i64, &(u8, Fate))| {
                    *other == key && matches!(fate, Fate::Waits | Fate::Busy)
                };
                assert_eq!(
                    former.find(is_before),
                    None,
                    "{place} is not the first of its key"
                );
                let busy = self
                    .known
                    .values()
                    .filter(|(other, fate)| *fate == Fate::Busy && (key == 0 || *other == key));
                assert!(busy.count() < if key == 0 { 3 } else { 1 });
                self.begun.push(self.stage.now);
            }
            self.known.get_mut(&place).unwrap().1 = fate;
            self.stage.busy.insert(place, attempt);
        }
    }

    /// All that was not delivered is here, or dead.
    fn check(&self) {
        let is_here = |fate: Fate| !matches!(fate, Fate::Delivered | Fate::Dead);
        let here = self
            .known
            .values()
            .filter(|(_, fate)| is_here(*fate))
            .count();
        assert_eq!(self.stage.machine.len(), here);
        assert_eq!(self.stage.machine.bytes(), 10 * here);
        assert_eq!(self.stage.machine.busy(), self.stage.busy.len());
    }
}

proptest! {
    #[test]
    fn in_order_none_lost_and_none_twice(script in prop::collection::vec(happens(), 0..300)) {
        let mut model = Model::new();
        for what in &script {
            model.happen(what);
            model.check();
        }
        holds_the_pace(&model.begun, 100.0);
        // A receiver that takes everything gets everything.
        model.happen(&Happens::Gate(true));
        for _ in 0..script.len() * 4 + 100 {
            model.happen(&Happens::End(0, 0));
            model.happen(&Happens::Write(0));
            model.happen(&Happens::Pass(300));
        }
        prop_assert!(model.stage.machine.is_empty());
        model.check();
        let has_ended = |fate: Fate| matches!(fate, Fate::Delivered | Fate::Dead);
        prop_assert!(model.known.values().all(|(_, fate)| has_ended(*fate)));
        prop_assert!(model.stage.machine.lanes.is_empty());
        prop_assert!(model.stage.machine.line.is_empty() && model.stage.machine.ages.is_empty());
    }
}
