//! What is said to the database, and the numbers in it.

use super::super::State;

/// Of a table.
pub(super) fn number(state: State) -> i16 {
    state.number() as i16
}

pub(super) const LOG: &str = "SELECT seq, at, events FROM outlast_record \
    WHERE saga = (SELECT place FROM outlast_saga WHERE id = $1) AND seq >= $2 ORDER BY seq LIMIT $3";

pub(super) const COUNT: &str = "SELECT definition, version, state, count(*) FROM outlast_saga \
    WHERE state < 20 GROUP BY definition, version, state ORDER BY state, definition, version";

/// Other runners look when they hear of it.
pub(super) const PAUSE: &str = "WITH put AS (\
       INSERT INTO outlast_pause (definition, paused, who, reason, at) VALUES ($1, $2, $3, $4, $5) \
       ON CONFLICT (definition) DO UPDATE SET paused = excluded.paused, who = excluded.who, \
         reason = excluded.reason, at = excluded.at RETURNING definition) \
     SELECT pg_notify('outlast_saga', '') FROM put";

pub(super) const PAUSES: &str =
    "SELECT definition, paused, who, reason, at FROM outlast_pause ORDER BY definition";

pub(super) const FIND: &str = "SELECT id, place, definition, version, hash, state, began, \
      input_hash, ended, dropped FROM outlast_saga WHERE id = $1";

pub(super) const LIST: &str = "SELECT id, place, definition, version, hash, state, began, \
      input_hash, ended, dropped FROM outlast_saga WHERE place > $1 ORDER BY place LIMIT $2";

pub(super) const LIST_OF_STATE: &str = "SELECT id, place, definition, version, hash, state, began, \
      input_hash, ended, dropped FROM outlast_saga WHERE place > $1 AND state = $3 ORDER BY place LIMIT $2";

pub(super) const ENTER: &str = "INSERT INTO outlast_runner (name, until) \
    VALUES ($1, clock_timestamp() + $2::bigint * interval '1 millisecond') \
    RETURNING id, (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

pub(super) const RENEW: &str = "UPDATE outlast_runner \
    SET until = clock_timestamp() + $2::bigint * interval '1 millisecond' WHERE id = $1 RETURNING id";

pub(super) const LEAVE: &str = "WITH gone AS (DELETE FROM outlast_runner WHERE id = $1 RETURNING id) \
    SELECT pg_notify('outlast_saga', ''), pg_notify('outlast_queue', '') FROM gone";

/// Those who were not heard of for as long as their lease. Whoever renews at the same time is heard of.
pub(super) const STRIKE_OFF: &str = "DELETE FROM outlast_runner \
    WHERE until < clock_timestamp() AND id <> $1";

/// Sagas that are there already do not come back.
pub(super) const BEGIN: &str = "WITH new AS (\
       SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], \
         $7::smallint[], $8::bigint[], $9::text[]) \
         AS new (id, definition, version, hash, input_hash, state, began, events)), \
     put AS (\
       INSERT INTO outlast_saga \
         (id, definition, version, hash, input_hash, state, began, length, runner, epoch) \
       SELECT id, definition, version, hash, input_hash, state, began, 1, $1, 1 FROM new \
       ON CONFLICT (id) DO NOTHING RETURNING place, id), \
     logged AS (\
       INSERT INTO outlast_record (saga, seq, at, epoch, events) \
       SELECT put.place, 0, new.began, 1, new.events FROM put JOIN new USING (id)) \
     SELECT id, place FROM put";

pub(super) const BEGUN: &str = "SELECT id, definition, input_hash, place, epoch, \
       runner IS NOT DISTINCT FROM $2 AND length = 1 \
     FROM outlast_saga WHERE id = ANY($1::text[])";

/// Sagas of another runner or epoch, or with a log of another length, do not come back.
pub(super) const APPEND: &str = "WITH new AS (\
       SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], \
         $7::smallint[]) AS new (place, epoch, seq, at, events, state)), \
     moved AS (\
       UPDATE outlast_saga saga SET length = new.seq + 1, state = new.state, \
         ended = CASE WHEN new.state >= 20 THEN new.at END FROM new \
       WHERE saga.place = new.place AND saga.length = new.seq AND saga.runner = $1 \
         AND saga.epoch = new.epoch RETURNING saga.place), \
     logged AS (\
       INSERT INTO outlast_record (saga, seq, at, epoch, events) \
       SELECT new.place, new.seq, new.at, new.epoch, new.events FROM new JOIN moved USING (place)) \
     SELECT place FROM moved";

/// Whose a saga is, and what its last record says.
pub(super) const WHOSE: &str = "SELECT saga.place, \
       saga.runner IS NOT DISTINCT FROM $2 AND saga.epoch = asked.epoch, \
       saga.length, record.at, record.events \
     FROM unnest($1::bigint[], $3::bigint[]) AS asked (place, epoch) \
     JOIN outlast_saga saga USING (place) \
     LEFT JOIN outlast_record record \
       ON record.saga = saga.place AND record.seq = saga.length - 1";

/// Those of no runner, and those of this one that it does not know of, if it looks for them.
pub(super) const CLAIM: &str = "UPDATE outlast_saga saga SET runner = $1, epoch = saga.epoch + 1 \
     FROM (\
       SELECT free.place FROM outlast_saga free \
       WHERE free.state = 0 AND free.place > $2 \
         AND EXISTS (SELECT 1 FROM outlast_runner WHERE id = $1) \
         AND (free.runner IS NULL \
           OR NOT EXISTS (SELECT 1 FROM outlast_runner runner WHERE runner.id = free.runner) \
           OR $7::boolean AND free.runner = $1 AND NOT free.place = ANY($8::bigint[])) \
         AND (free.definition, free.version, free.hash) IN (\
           SELECT * FROM unnest($4::text[], $5::bigint[], $6::text[])) \
       ORDER BY free.place LIMIT $3 FOR UPDATE OF free SKIP LOCKED) AS free \
     WHERE saga.place = free.place \
     RETURNING saga.id, saga.place, saga.definition, saga.version, saga.hash, saga.state, \
       saga.began, saga.input_hash, saga.ended, saga.dropped, saga.epoch, saga.length";

/// One that waits for somebody is whoever's does something about it.
pub(super) const TAKE: &str = "UPDATE outlast_saga saga SET runner = $1, epoch = saga.epoch + 1 \
     WHERE saga.id = $2 AND saga.state < 20 \
       AND (saga.state = 1 OR saga.runner IS NULL OR saga.runner = $1 \
         OR NOT EXISTS (SELECT 1 FROM outlast_runner runner WHERE runner.id = saga.runner)) \
     RETURNING saga.place, saga.epoch, saga.length, saga.state";

pub(super) const RUNNER_OF: &str = "SELECT runner.id, runner.name FROM outlast_saga saga \
     JOIN outlast_runner runner ON runner.id = saga.runner WHERE saga.id = $1";

pub(super) const RELEASE: &str = "WITH free AS (\
       UPDATE outlast_saga SET runner = NULL \
       WHERE place = $2 AND runner = $1 AND epoch = $3 AND state = 0 RETURNING place) \
     SELECT pg_notify('outlast_saga', '') FROM free";

pub(super) const FORGET: &str = "WITH gone AS (\
       DELETE FROM outlast_saga WHERE place IN (\
         SELECT place FROM outlast_saga WHERE state >= 20 AND dropped = ANY('{true,false}') \
           AND coalesce(ended, began) < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING place), \
     logs AS (DELETE FROM outlast_record WHERE saga IN (SELECT place FROM gone)) \
     SELECT count(*) FROM gone";

pub(super) const COMPACT: &str = "WITH bare AS (\
       UPDATE outlast_saga SET dropped = true WHERE place IN (\
         SELECT place FROM outlast_saga WHERE state >= 20 AND NOT dropped \
           AND coalesce(ended, began) < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING place), \
     logs AS (DELETE FROM outlast_record WHERE saga IN (SELECT place FROM bare)) \
     SELECT count(*) FROM bare";
