//! Attempts of sagas: a step is done, undone or asked about by a call through its upstream.

use super::*;

/// What came of an attempt.
#[derive(Debug)]
pub(in crate::world) enum Came {
    /// To do a step, or to undo it.
    Acted(Acted),
    /// To ask about it.
    Found(Found),
}

/// An attempt of a step.
#[derive(Clone, Copy, Debug)]
pub(in crate::world) struct Act {
    pub(in crate::world) mark: Mark,
    /// Its number among those of its kind.
    pub(super) attempt: u32,
}

impl Came {
    /// What a call that has ended means for its step. `lost`: an attempt of it may have done the work.
    pub(in crate::world) fn of(work: Work, result: Result<Outcome, Rejection>, lost: bool) -> Came {
        let is_query = work == Work::Query;
        let after = match result {
            Ok(Outcome::Success) if is_query => return Came::Found(Found::Done(Value::Bool(true))),
            // As by a 404.
            Ok(Outcome::Permanent) if is_query => return Came::Found(Found::NotDone),
            Ok(Outcome::Success) => return Came::Acted(Acted::Done(Value::Bool(true))),
            _ if lost => return Came::unknown(work, "an attempt got no answer".to_owned()),
            Ok(Outcome::Permanent) => {
                return Came::Acted(Acted::Permanent("declined".to_owned()));
            }
            Ok(Outcome::Overload { retry_after }) => retry_after,
            Ok(Outcome::Transient | Outcome::Unsent | Outcome::Ignored) => None,
            Err(rejection) => rejection.retry_after,
        };
        let after = after.map(|after| after.min(LONGEST_PAUSE));
        let error = match result {
            Ok(_) => "it failed".to_owned(),
            Err(rejection) => rejection.to_string(),
        };
        match is_query {
            true => Came::Found(Found::Open { error, after }),
            false => Came::Acted(Acted::Transient { error, after }),
        }
    }

    /// Nobody has answered.
    fn unknown(work: Work, error: String) -> Came {
        match work {
            Work::Act | Work::Undo => Came::Acted(Acted::Unknown(error)),
            Work::Query => Came::Found(Found::Open { error, after: None }),
        }
    }
}

impl World {
    /// Makes an attempt: a call through its upstream.
    pub(super) fn act(&mut self, number: u32, step: usize, attempt: u32, work: Work) {
        let one = &self.sagas.all[number as usize];
        let (kind, saga) = (one.kind, one.saga.as_ref().expect("it is in memory"));
        let log = at_once(self.sagas.logs.log(saga.id())).expect("memory has it");
        if !has_record(&log, work, step, attempt) {
            let what = format!("{}: an attempt is made without a record", saga.id());
            self.sagas.report.breaks(what);
        }
        let described = saga.definition().steps().nth(step);
        let described = described.expect("a step of the definition");
        let timeout = match work {
            Work::Act => Some(described.time()),
            Work::Undo => described.undo_time(),
            Work::Query => described.query_time(),
        };
        let asked_of = saga.steps()[step].attempts;
        let act = Act {
            mark: Mark {
                saga: number,
                step: u16::try_from(step).expect("steps are bounded"),
                work,
                attempt: if work == Work::Query {
                    asked_of
                } else {
                    attempt
                },
            },
            attempt,
        };
        let upstream = self.model.sagas[kind as usize].through[step][work as usize];
        let seed = self
            .draws
            .bits(kind, Purpose::Step, self.key_of(Owner::Step(act)));
        let ends = self.now + timeout.unwrap_or_default();
        let owner = Owner::Step(act);
        let said = (ends, Tier::default());
        let call = self.call(upstream, owner, Asked::new(seed), said);
        if self.callers.get(call).is_some() {
            self.sagas.all[number as usize].calls.push(call);
            let event = Event::Saga(SagaEvent::TimesOut(call));
            self.agenda.plan(ends, Class::Timer, event);
        }
    }

    /// The policies have not ended a call in the time that its step has.
    pub(super) fn times_out(&mut self, at: Ref) {
        let Some(Caller {
            owner: Owner::Step(act),
            ..
        }) = self.callers.get(at)
        else {
            return;
        };
        let act = *act;
        self.give_up(at);
        let came = Came::unknown(act.mark.work, "no answer in time".to_owned());
        self.step_ended(at, act, came);
    }

    /// An attempt has ended.
    pub(in crate::world) fn step_ended(&mut self, at: Ref, act: Act, came: Came) {
        let one = &mut self.sagas.all[act.mark.saga as usize];
        one.calls.retain(|call| *call != at);
        self.sagas.inbox.push_back((act, came));
    }

    /// Counts an attempt that an upstream's policies make for a step.
    pub(in crate::world) fn count_request(&mut self, act: Act) {
        let One { kind, counts, .. } = self.sagas.all[act.mark.saga as usize];
        let report = &mut self.sagas.report.sagas[kind as usize];
        report.steps[usize::from(act.mark.step)].requests += u64::from(counts);
    }

    /// What random numbers of an attempt are drawn by: equal in another configuration.
    pub(in crate::world) fn key_of_step(&self, act: Act) -> u64 {
        let key = mix(self.key_of_mark(act.mark) ^ u64::from(act.attempt).rotate_left(40));
        match act.mark.work {
            Work::Act | Work::Undo => key,
            // Questions are counted anew for each attempt that they are about.
            Work::Query => mix(key ^ u64::from(act.mark.attempt)),
        }
    }

    /// That of all attempts of a step.
    pub(in crate::world) fn key_of_mark(&self, mark: Mark) -> u64 {
        let One { kind, index, .. } = self.sagas.all[mark.saga as usize];
        let saga = mix(index ^ mix(u64::from(kind) << 32 | SAGAS));
        let work = match mark.work {
            Work::Act => 0,
            Work::Undo => 1,
            Work::Query => 1 << 32,
        };
        mix(saga ^ u64::from(mark.step) << 1 ^ work)
    }
}

/// As in the gateway: who asks for a longer pause is asked again all the same.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Keys of sagas are not those of clients.
const SAGAS: u64 = 0x5a9a;
