//! What is said to the database of messages. `$1` is the queue.

/// Pushes into a queue come one after the other, so that places are committed in their order.
pub(super) const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('outlast_queue ' || $1::text, 0))";

/// What is there already does not come back, nor what there is no room for.
pub(super) const PUT: &str = "WITH asked AS (\
       SELECT * FROM unnest($2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[], \
         $7::bigint[], $8::bytea[], $9::bigint[], $10::bigint[]) WITH ORDINALITY \
         AS asked (id, key, hash, size, pushed, expires, payload, most, most_bytes, nth)), \
     there AS (\
       SELECT coalesce(sum(messages), 0) AS messages, coalesce(sum(bytes), 0) AS bytes FROM (\
         SELECT messages, bytes FROM outlast_queue WHERE name = $1 UNION ALL \
         SELECT -messages, -bytes FROM outlast_delivery WHERE queue = $1) AS both_sides), \
     new AS (\
       SELECT asked.*, count(*) OVER earlier AS upto, sum(size) OVER earlier AS bytes FROM asked \
       WHERE NOT EXISTS (\
         SELECT 1 FROM outlast_message known WHERE known.queue = $1 AND known.id = asked.id) \
       WINDOW earlier AS (ORDER BY nth ROWS UNBOUNDED PRECEDING)), \
     fits AS (\
       SELECT new.* FROM new, there WHERE there.messages + new.upto <= new.most \
         AND there.bytes + new.bytes <= new.most_bytes ORDER BY nth), \
     numbered AS MATERIALIZED (SELECT nextval('outlast_place') AS place, fits.* FROM fits), \
     put AS (\
       INSERT INTO outlast_message \
         (place, queue, id, key, hash, size, state, pushed, expires, arrived, due, payload) \
       SELECT place, $1, id, key, hash, size, 0, pushed, expires, place, pushed, payload \
       FROM numbered RETURNING place, id, size), \
     counted AS (\
       INSERT INTO outlast_queue AS queue (name, messages, bytes) \
       SELECT $1, count(*), sum(size) FROM put HAVING count(*) > 0 \
       ON CONFLICT (name) DO UPDATE SET messages = queue.messages + excluded.messages, \
         bytes = queue.bytes + excluded.bytes), \
     told AS (\
       SELECT pg_notify('outlast_queue', $1) FROM put WHERE $11::boolean LIMIT 1) \
     SELECT put.id, put.place, (SELECT count(*) FROM told) FROM put";

pub(super) const PUT_BEFORE: &str = "SELECT place, id, key, size, state, pushed, expires, attempts, \
       due, error, ended, notes, hash FROM outlast_message WHERE queue = $1 AND id = ANY($2::text[])";

/// Nobody else takes the queue over before this transaction has ended.
pub(super) const FENCE: &str = "SELECT 1 FROM outlast_delivery \
     WHERE queue = $1 AND runner = $2 AND epoch = $3 FOR UPDATE";

/// Messages that do not wait do not come back, nor any if another runner delivers the queue. Kinds: 0 an
/// attempt, 1 again, 2 delivered, 3 dead.
pub(super) const CHANGE: &str = "WITH new AS (\
       SELECT * FROM unnest($4::bigint[], $5::smallint[], $6::bigint[], $7::bigint[], $8::text[]) \
         AS new (place, kind, attempts, at, error)), \
     moved AS (\
       UPDATE outlast_message message SET \
         state = CASE new.kind WHEN 2 THEN 20 WHEN 3 THEN 1 ELSE 0 END, \
         attempts = CASE WHEN new.kind <= 1 THEN new.attempts ELSE message.attempts END, \
         due = CASE new.kind WHEN 1 THEN new.at ELSE message.due END, \
         ended = CASE WHEN new.kind >= 2 THEN new.at END, \
         error = CASE new.kind WHEN 0 THEN message.error ELSE new.error END, \
         payload = CASE new.kind WHEN 2 THEN NULL ELSE message.payload END \
       FROM new WHERE message.place = new.place AND message.queue = $1 AND message.state = 0 \
         AND EXISTS (SELECT 1 FROM outlast_delivery \
           WHERE queue = $1 AND runner = $2 AND epoch = $3) \
       RETURNING message.place, new.kind, message.size), \
     counted AS (\
       UPDATE outlast_delivery delivery SET \
         messages = delivery.messages + ended.messages, bytes = delivery.bytes + ended.bytes, \
         dead = delivery.dead + ended.dead \
       FROM (SELECT count(*) FILTER (WHERE kind = 2) AS messages, \
           coalesce(sum(size) FILTER (WHERE kind = 2), 0) AS bytes, \
           count(*) FILTER (WHERE kind = 3) AS dead FROM moved) AS ended \
       WHERE delivery.queue = $1 AND ended.messages + ended.dead > 0) \
     SELECT place FROM moved";

/// What a change that may have been made before would have left.
pub(super) const CHANGED: &str = "SELECT place, state, ended FROM outlast_message WHERE queue = $1 AND place = ANY($2::bigint[])";

/// A dead message waits again, and comes as if it were pushed now.
pub(super) const RETRY: &str = "WITH moved AS (\
       UPDATE outlast_message SET state = 0, ended = NULL, attempts = 0, due = $3, expires = $4, \
         arrived = nextval('outlast_place'), notes = (\
           SELECT json_agg(note ORDER BY nth)::text FROM (\
             SELECT note, nth FROM jsonb_array_elements(\
               coalesce(notes, '[]')::jsonb || $5::text::jsonb) WITH ORDINALITY AS every (note, nth) \
             ORDER BY nth DESC LIMIT $6) AS latest) \
       WHERE queue = $1 AND place = $2 AND state = 1 RETURNING place), \
     counted AS (\
       UPDATE outlast_delivery SET dead = dead - 1 \
       WHERE queue = $1 AND EXISTS (SELECT 1 FROM moved)) \
     SELECT pg_notify('outlast_queue', $1) FROM moved";

pub(super) const DROP: &str = "WITH moved AS (\
       UPDATE outlast_message SET state = 21, ended = $3, payload = NULL, notes = (\
           SELECT json_agg(note ORDER BY nth)::text FROM (\
             SELECT note, nth FROM jsonb_array_elements(\
               coalesce(notes, '[]')::jsonb || $4::text::jsonb) WITH ORDINALITY AS every (note, nth) \
             ORDER BY nth DESC LIMIT $5) AS latest) \
       WHERE queue = $1 AND place = $2 AND state = 1 RETURNING size), \
     counted AS (\
       UPDATE outlast_delivery SET dead = dead - 1, messages = messages + 1, \
         bytes = bytes + (SELECT size FROM moved) \
       WHERE queue = $1 AND EXISTS (SELECT 1 FROM moved)) \
     SELECT size FROM moved";

/// A queue that nobody delivers, or whoever was struck off, or this runner already.
pub(super) const OWN: &str = "INSERT INTO outlast_delivery AS delivery (queue, runner, epoch) \
     SELECT $1::text, $2::bigint, 1 WHERE EXISTS (SELECT 1 FROM outlast_runner WHERE id = $2) \
     ON CONFLICT (queue) DO UPDATE SET runner = $2, epoch = delivery.epoch + 1 \
     WHERE delivery.runner IS NULL OR delivery.runner = $2 \
       OR NOT EXISTS (SELECT 1 FROM outlast_runner WHERE id = delivery.runner) \
     RETURNING epoch";

pub(super) const DISOWN: &str = "WITH free AS (\
       UPDATE outlast_delivery SET runner = NULL \
       WHERE queue = $1 AND runner = $2 AND epoch = $3 RETURNING queue) \
     SELECT pg_notify('outlast_queue', '') FROM free";

pub(super) const FORGET: &str = "WITH gone AS (\
       DELETE FROM outlast_message WHERE place IN (\
         SELECT place FROM outlast_message WHERE queue = $1 AND state >= 20 AND ended < $2 \
         ORDER BY ended LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING place) \
     SELECT count(*) FROM gone";

pub(super) const ARRIVALS: &str = "SELECT place, id, key, size, state, pushed, expires, attempts, due, \
       error, ended, notes, arrived FROM outlast_message \
     WHERE queue = $1 AND state = 0 AND arrived > $2 ORDER BY arrived LIMIT $3";

pub(super) const COUNTS: &str = "SELECT coalesce(sum(messages), 0)::bigint, \
       coalesce(sum(bytes), 0)::bigint, coalesce(sum(dead), 0)::bigint FROM (\
       SELECT messages, bytes, 0 AS dead FROM outlast_queue WHERE name = $1 UNION ALL \
       SELECT -messages, -bytes, dead FROM outlast_delivery WHERE queue = $1) AS both_sides";

pub(super) const READ: &str = "SELECT place, id, key, size, state, pushed, expires, attempts, due, \
       error, ended, notes, payload FROM outlast_message WHERE place = $1";

pub(super) const MESSAGE: &str = "SELECT place, id, key, size, state, pushed, expires, attempts, due, \
       error, ended, notes FROM outlast_message WHERE queue = $1 AND id = $2";

pub(super) const LIST: &str = "SELECT place, id, key, size, state, pushed, expires, attempts, due, \
       error, ended, notes FROM outlast_message \
     WHERE queue = $1 AND place > $2 ORDER BY place LIMIT $3";

pub(super) const LIST_OF_STATE: &str = "SELECT place, id, key, size, state, pushed, expires, attempts, \
       due, error, ended, notes FROM outlast_message \
     WHERE queue = $1 AND place > $2 AND state = $4 ORDER BY place LIMIT $3";
