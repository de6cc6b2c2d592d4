//! The tables, and their version.

use super::super::StoreError;
use super::link::{Link, Open};

/// Makes tables, or brings them up to date. Runners that start together do it one after the other.
pub(super) async fn migrate(link: &mut Link) -> Result<(), StoreError> {
    let open = link.open().await?;
    open.run("BEGIN").await?;
    let migrated = within(&open).await;
    let end = if migrated.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    open.run(end).await?;
    migrated
}

async fn within(open: &Open) -> Result<(), StoreError> {
    open.run(&format!("SELECT pg_advisory_xact_lock({LOCK})"))
        .await?;
    open.run("CREATE TABLE IF NOT EXISTS outlast_version (version bigint NOT NULL)")
        .await?;
    let rows = open
        .rows("SELECT version FROM outlast_version", &[])
        .await?;
    let version: i64 = rows.first().map_or(0, |row| row.get(0));
    let from = usize::try_from(version).ok();
    let Some(from) = from.filter(|from| *from <= STEPS.len()) else {
        let message = format!(
            "its tables have version {version}, and this program knows up to {}",
            STEPS.len()
        );
        return Err(StoreError::Failed(message));
    };
    for step in &STEPS[from..] {
        open.run(step).await?;
    }
    if from < STEPS.len() {
        let latest = STEPS.len();
        let text =
            format!("DELETE FROM outlast_version; INSERT INTO outlast_version VALUES ({latest})");
        open.run(&text).await?;
    }
    Ok(())
}

/// Of all who migrate; the digits mean nothing.
const LOCK: i64 = 0x0071_a57a;

/// What leads from each version to the next one: sagas, then queues, then pauses, then ends.
const STEPS: [&str; 4] = [SAGAS, QUEUES, PAUSES, ENDS];

/// A row of a saga changes with every record; there is room for its next version on the same page, and
/// then no index changes.
const SAGAS: &str = "CREATE TABLE outlast_runner (\
       id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, \
       began timestamptz NOT NULL DEFAULT clock_timestamp(), until timestamptz NOT NULL); \
     CREATE TABLE outlast_saga (\
       place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL UNIQUE, \
       definition text NOT NULL, version bigint NOT NULL, hash text NOT NULL, \
       input_hash text NOT NULL, state smallint NOT NULL, began bigint NOT NULL, \
       length bigint NOT NULL, runner bigint, epoch bigint NOT NULL) WITH (fillfactor = 70); \
     CREATE INDEX outlast_saga_state ON outlast_saga (state, place); \
     CREATE TABLE outlast_record (\
       saga bigint NOT NULL, seq bigint NOT NULL, at bigint NOT NULL, epoch bigint NOT NULL, \
       events text NOT NULL, PRIMARY KEY (saga, seq))";

/// What pushes change of a queue and what deliveries change are rows of different tables, so that neither
/// waits for the other; what is in it is the difference. Places and arrivals are numbers of one sequence, in
/// each queue in the order of commits.
const QUEUES: &str = "CREATE SEQUENCE outlast_place; \
     CREATE TABLE outlast_queue (\
       name text PRIMARY KEY, messages bigint NOT NULL, bytes bigint NOT NULL) \
       WITH (fillfactor = 10); \
     CREATE TABLE outlast_delivery (\
       queue text PRIMARY KEY, runner bigint, epoch bigint NOT NULL, \
       messages bigint NOT NULL DEFAULT 0, bytes bigint NOT NULL DEFAULT 0, \
       dead bigint NOT NULL DEFAULT 0) WITH (fillfactor = 10); \
     CREATE TABLE outlast_message (\
       place bigint PRIMARY KEY, queue text NOT NULL, id text NOT NULL, key text, hash bytea NOT NULL, \
       size bigint NOT NULL, state smallint NOT NULL, pushed bigint NOT NULL, \
       expires bigint NOT NULL, arrived bigint NOT NULL, attempts bigint NOT NULL DEFAULT 0, \
       due bigint NOT NULL, ended bigint, error text, notes text, payload bytea, \
       UNIQUE (queue, id)) WITH (fillfactor = 80); \
     CREATE INDEX outlast_message_arrived ON outlast_message (queue, arrived) WHERE state = 0; \
     CREATE INDEX outlast_message_state ON outlast_message (queue, state, place); \
     CREATE INDEX outlast_message_ended ON outlast_message (queue, ended) WHERE state >= 20";

/// The last word on each definition.
const PAUSES: &str = "CREATE TABLE outlast_pause (\
       definition text PRIMARY KEY, paused boolean NOT NULL, who text NOT NULL, \
       reason text NOT NULL, at bigint NOT NULL)";

/// When sagas ended, and whether their logs were dropped. Of those that ended before, or end in a runner
/// that does not know of it yet, when they began stands for it.
const ENDS: &str = "ALTER TABLE outlast_saga ADD COLUMN ended bigint, \
       ADD COLUMN dropped boolean NOT NULL DEFAULT false; \
     CREATE INDEX outlast_saga_ended ON outlast_saga (dropped, coalesce(ended, began)) \
       WHERE state >= 20";
