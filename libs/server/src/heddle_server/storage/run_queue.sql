-- The hot statements of the queue. Most are one call of a database function (functions/*.sql): a function takes a fresh
-- snapshot after each lock it waited for, one statement does not.

-- name: open_run
-- One run on its own: waits for the thread row.
SELECT * FROM heddle.open_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, false);

-- name: open_runs
-- Several runs in one commit, sorted by thread. Threads that somebody holds are refused as `locked`, not waited for.
SELECT asked.place, o.*
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::boolean[], $10::boolean[], $11::boolean[], $12::uuid[], $13::interval[], $14::text[])
       WITH ORDINALITY AS asked(run, thread, assistant, version, graph, metadata, kwargs, strategy, resumable,
                                ephemeral, make, token, lease, base, place),
       LATERAL heddle.open_run(asked.run, asked.thread, asked.assistant, asked.version, asked.graph, asked.metadata,
                               asked.kwargs, asked.strategy, asked.resumable, asked.ephemeral, asked.make,
                               asked.token, asked.lease, asked.base, true) o;

-- name: claim
SELECT * FROM heddle.claim_runs($1, $2, $3);

-- name: heartbeat
-- Extend the leases of those who still hold their run; a missing id is lost. Rows are locked in id order first: an
-- UPDATE of an array of ids takes them in any order and meets a flush of the same runs in a deadlock.
WITH held AS MATERIALIZED (
    SELECT r.run_id, r.cancel_action
      FROM heddle.run r JOIN unnest($1::uuid[], $2::uuid[]) AS claim(run_id, token) USING (run_id)
     WHERE r.lease_token = claim.token AND r.status = 'running'
     ORDER BY r.run_id
       FOR NO KEY UPDATE OF r
)
UPDATE heddle.run r SET lease_until = now() + $3::interval
  FROM held WHERE r.run_id = held.run_id
RETURNING r.run_id, held.cancel_action;

-- name: close_runs
-- The arrays of the outcomes, then those of the checkpoint rows. A missing id is lost.
SELECT * FROM heddle.close_runs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
    $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34,
    $35);

-- name: ended_as
-- After a connection broke under a close: how do these runs stand? Only the owner of an attempt ends it, so an attempt
-- that is over in the way its owner asked for was ended by the statement that broke.
SELECT r.run_id, r.status, r.attempt, r.error,
       EXISTS (SELECT FROM heddle.run next
                WHERE next.thread_id = r.thread_id AND next.status = 'pending' AND next.created_at <= now()
                  AND next.run_id <> r.run_id) AS successor_due
  FROM heddle.run r WHERE r.run_id = ANY ($1::uuid[]);

-- name: reap
SELECT heddle.reap_runs($1, $2);
