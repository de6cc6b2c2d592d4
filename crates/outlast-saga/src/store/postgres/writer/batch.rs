//! One transaction.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::lease::Held;
use super::super::link::{Asked, Open};
use super::super::{listed, statements};
use super::*;

/// Records that are appended, a column each.
#[derive(Default)]
struct Appends {
    /// Where in the batch.
    which: Vec<usize>,
    places: Vec<i64>,
    epochs: Vec<i64>,
    seqs: Vec<i64>,
    ats: Vec<i64>,
    events: Vec<String>,
    states: Vec<i16>,
}

/// Sagas that begin, a column each.
#[derive(Default)]
struct Begins<'a> {
    /// Where in the batch.
    which: Vec<usize>,
    ids: Vec<&'a str>,
    definitions: Vec<&'a str>,
    versions: Vec<i64>,
    hashes: Vec<&'a str>,
    input_hashes: Vec<&'a str>,
    states: Vec<i16>,
    ats: Vec<i64>,
    events: Vec<String>,
}

type Column<'a> = &'a (dyn ToSql + Sync);

impl Task {
    /// Commits a batch, of beginnings and records or of one other thing. `again` if it may have been
    /// committed before.
    pub(super) async fn transact(
        &mut self,
        batch: &[Work],
        again: bool,
    ) -> Result<Vec<Came>, Failure> {
        let open = self.link.open().await?;
        let runner = self.lease.runner();
        let came = match batch {
            [Work::Forget(before, most, _)] => {
                let (before, most) = (before.0 as i64, *most as i64);
                let rows = open.rows(statements::FORGET, &[&before, &most]).await?;
                Came::Forgotten(rows[0].get::<_, i64>(0) as usize)
            }
            [Work::Compact(before, most, _)] => {
                let (before, most) = (before.0 as i64, *most as i64);
                let rows = open.rows(statements::COMPACT, &[&before, &most]).await?;
                Came::Forgotten(rows[0].get::<_, i64>(0) as usize)
            }
            [Work::Claim(known, after, most, _)] => {
                self.claim(&open, known, (*after, *most), again).await?
            }
            [Work::Take(id, _)] => self.take(&open, id).await?,
            [Work::Release(id, _)] => {
                if let Some(held) = self.lease.held(id) {
                    let values: [Column<'_>; 3] = [&runner, &held.place, &held.epoch];
                    open.rows(statements::RELEASE, &values).await?;
                    self.lease.let_go(id);
                }
                Came::Done
            }
            [Work::Pause(pause, _)] => {
                let at = pause.at.0 as i64;
                let values: [Column<'_>; 5] = [
                    &pause.definition,
                    &pause.is_paused,
                    &pause.by,
                    &pause.reason,
                    &at,
                ];
                open.rows(statements::PAUSE, &values).await?;
                Came::Done
            }
            [Work::Leave(_)] => {
                self.leave().await?;
                Came::Done
            }
            batch => return self.put(&open, runner, batch, again).await,
        };
        Ok(vec![came])
    }

    async fn claim(
        &mut self,
        open: &Open,
        known: &[Known],
        (after, most): (i64, usize),
        again: bool,
    ) -> Result<Came, Failure> {
        let runner = self.lease.runner();
        let most = most as i64;
        let names: Vec<&str> = known.iter().map(|known| &*known.definition).collect();
        let versions: Vec<i64> = known.iter().map(|known| i64::from(known.version)).collect();
        let hashes: Vec<&str> = known.iter().map(|known| &*known.hash).collect();
        let looks = again || self.is_unsure;
        let held = if looks {
            self.lease.places()
        } else {
            Vec::new()
        };
        let strike: Asked<'_> = (statements::STRIKE_OFF, &[&runner]);
        let values: [Column<'_>; 8] = [
            &runner, &after, &most, &names, &versions, &hashes, &looks, &held,
        ];
        if self.lease.has_left() {
            return Ok(Came::Claimed(Vec::new()));
        }
        let (_, mut rows) = open.both(strike, (statements::CLAIM, &values)).await?;
        if looks && after == 0 && rows.is_empty() {
            self.is_unsure = false;
        }
        rows.sort_by_key(|row| row.get::<_, i64>(1));
        let one = |row: &Row| {
            let listed = listed(row).map_err(Failure::Refused)?;
            let held = Held {
                place: listed.place,
                epoch: row.get(10),
                length: row.get::<_, i64>(11) as u64,
                is_open: true,
            };
            self.lease.hold(runner, &listed.id, held);
            Ok(listed)
        };
        let claimed: Result<Vec<Listed>, Failure> = rows.iter().map(one).collect();
        claimed.map(Came::Claimed)
    }

    async fn take(&self, open: &Open, id: &str) -> Result<Came, Failure> {
        let runner = self.lease.runner();
        let values: [Column<'_>; 2] = [&runner, &id];
        let strike: Asked<'_> = (statements::STRIKE_OFF, &[&runner]);
        if self.lease.has_left() {
            return Ok(Came::Taken(false));
        }
        let (_, rows) = open.both(strike, (statements::TAKE, &values)).await?;
        let Some(row) = rows.first() else {
            return Ok(Came::Taken(false));
        };
        let held = Held {
            place: row.get(0),
            epoch: row.get(1),
            length: row.get::<_, i64>(2) as u64,
            is_open: row.get::<_, i16>(3) == 0,
        };
        self.lease.hold(runner, id, held);
        Ok(Came::Taken(true))
    }

    /// Beginnings and records.
    async fn put(
        &self,
        open: &Open,
        runner: i64,
        batch: &[Work],
        again: bool,
    ) -> Result<Vec<Came>, Failure> {
        // What is not held is lost.
        let mut came = vec![Came::Lost; batch.len()];
        let (mut begins, mut appends) = (Begins::default(), Appends::default());
        for (number, work) in batch.iter().enumerate() {
            match work {
                Work::Begin(..) if self.lease.has_left() => came[number] = Came::Left,
                Work::Begin(saga, _) => begins.push(number, saga)?,
                Work::Append(id, record, state, _) => {
                    if let Some(held) = self.lease.held(id) {
                        appends.push(number, held, record, *state)?;
                    }
                }
                _ => unreachable!("only these go together"),
            }
        }
        let (begun, moved) = {
            let (begin, append) = (begins.columns(&runner), appends.columns(&runner));
            let begin: Asked<'_> = (statements::BEGIN, &begin);
            let append: Asked<'_> = (statements::APPEND, &append);
            match (begins.which.is_empty(), appends.which.is_empty()) {
                (true, true) => (Vec::new(), Vec::new()),
                (false, true) => (open.rows(begin.0, begin.1).await?, Vec::new()),
                (true, false) => (Vec::new(), open.rows(append.0, append.1).await?),
                (false, false) => open.both(begin, append).await?,
            }
        };
        self.sort_begun(open, runner, (&begins, begun), again, &mut came)
            .await?;
        self.sort_moved(open, runner, (&appends, moved), again, &mut came)
            .await?;
        for (work, came) in batch.iter().zip(&came) {
            self.keep_in_mind(runner, work, came);
        }
        Ok(came)
    }

    /// Which have begun now, and which had.
    async fn sort_begun(
        &self,
        open: &Open,
        runner: i64,
        (begins, begun): (&Begins<'_>, Vec<Row>),
        again: bool,
        came: &mut [Came],
    ) -> Result<(), Failure> {
        let held = |place: i64, epoch: i64| Held {
            place,
            epoch,
            length: 1,
            is_open: true,
        };
        let mut known = HashMap::new();
        for row in &begun {
            known.insert(row.get::<_, String>(0), Begun::New);
            self.lease.hold(runner, row.get(0), held(row.get(1), 1));
        }
        if begun.len() < begins.which.len() {
            let rows = open
                .rows(statements::BEGUN, &[&begins.ids, &runner])
                .await?;
            for row in &rows {
                let (id, definition, input): (String, &str, &str) =
                    (row.get(0), row.get(1), row.get(2));
                let which = begins.ids.iter().position(|known| **known == id);
                let which = which.expect("only these were asked for");
                let is_same =
                    definition == begins.definitions[which] && input == begins.input_hashes[which];
                let is_own = again && row.get(5) && self.lease.held(&id).is_none();
                if is_own && is_same {
                    // The transaction of which nobody heard has begun it.
                    self.lease.hold(runner, &id, held(row.get(3), row.get(4)));
                    known.insert(id, Begun::New);
                } else {
                    let had = if is_same { Begun::Same } else { Begun::Other };
                    known.entry(id).or_insert(had);
                }
            }
        }
        for (id, number) in begins.ids.iter().zip(&begins.which) {
            let begun = known.get(*id).copied();
            let gone = || Failure::Again("it was forgotten just now".to_owned());
            came[*number] = Came::Begun(begun.ok_or_else(gone)?);
        }
        Ok(())
    }

    /// Which were appended, and why the others were not.
    async fn sort_moved(
        &self,
        open: &Open,
        runner: i64,
        (appends, moved): (&Appends, Vec<Row>),
        again: bool,
        came: &mut [Came],
    ) -> Result<(), Failure> {
        let index = |place: i64| {
            let index = appends.places.iter().position(|known| *known == place);
            index.expect("only these were asked for")
        };
        if moved.len() == appends.which.len() {
            for number in &appends.which {
                came[*number] = Came::Done;
            }
            return Ok(());
        }
        for row in &moved {
            came[appends.which[index(row.get(0))]] = Came::Done;
        }
        let values: [Column<'_>; 3] = [&appends.places, &runner, &appends.epochs];
        for row in open.rows(statements::WHOSE, &values).await? {
            let index = index(row.get(0));
            let number = appends.which[index];
            let (is_own, length): (bool, i64) = (row.get(1), row.get(2));
            // The transaction of which nobody heard may have appended it.
            let is_last = length == appends.seqs[index] + 1
                && row.get::<_, Option<i64>>(3) == Some(appends.ats[index])
                && row.get::<_, Option<&str>>(4) == Some(&appends.events[index]);
            match came[number] {
                Came::Done => {}
                _ if is_own && again && is_last => came[number] = Came::Done,
                _ if is_own => came[number] = Came::Conflict,
                _ => {}
            }
        }
        Ok(())
    }

    /// What is known of sagas that were written to.
    fn keep_in_mind(&self, runner: i64, work: &Work, came: &Came) {
        let Work::Append(id, record, state, _) = work else {
            return;
        };
        match (came, self.lease.held(id)) {
            (Came::Lost, _) => self.lease.let_go(id),
            (Came::Done, _) if state.has_ended() => {
                self.lease.let_go(id);
            }
            (Came::Done, Some(held)) => {
                let held = Held {
                    length: record.seq + 1,
                    is_open: *state == State::Open,
                    ..held
                };
                self.lease.hold(runner, id, held);
            }
            _ => {}
        }
    }
}

impl<'a> Begins<'a> {
    fn push(&mut self, number: usize, saga: &'a NewSaga) -> Result<(), Failure> {
        self.which.push(number);
        self.ids.push(&saga.id);
        self.definitions.push(&saga.definition);
        self.versions.push(i64::from(saga.version));
        self.hashes.push(&saga.hash);
        self.input_hashes.push(&saga.input_hash);
        self.states.push(statements::number(saga.state));
        self.ats.push(saga.record.at.0 as i64);
        self.events.push(text(&saga.record)?);
        Ok(())
    }

    fn columns(&self, runner: &'a i64) -> [Column<'_>; 9] {
        [
            runner,
            &self.ids,
            &self.definitions,
            &self.versions,
            &self.hashes,
            &self.input_hashes,
            &self.states,
            &self.ats,
            &self.events,
        ]
    }
}

impl Appends {
    fn push(
        &mut self,
        number: usize,
        held: Held,
        record: &Record,
        state: State,
    ) -> Result<(), Failure> {
        self.which.push(number);
        self.places.push(held.place);
        self.epochs.push(held.epoch);
        self.seqs.push(record.seq as i64);
        self.ats.push(record.at.0 as i64);
        self.events.push(text(record)?);
        self.states.push(statements::number(state));
        Ok(())
    }

    fn columns<'a>(&'a self, runner: &'a i64) -> [Column<'a>; 7] {
        [
            runner,
            &self.places,
            &self.epochs,
            &self.seqs,
            &self.ats,
            &self.events,
            &self.states,
        ]
    }
}

fn text(record: &Record) -> Result<String, Failure> {
    let text = serde_json::to_string(&record.events);
    text.map_err(|error| Failure::Refused(StoreError::Failed(error.to_string())))
}
