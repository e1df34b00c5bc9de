-- Take due pending runs, one per entry of p_tokens at most: the oldest of each thread, none whose thread has a running
-- run. Threads that somebody holds are passed over, so this never waits for one and never meets an open half-way.
-- What is decided about a thread is decided by a second look, taken after its row was locked.
-- p_again: the answer to an earlier call with these tokens was lost; what that one took is returned again.
-- The last row has no run id; its `next_due` is the time until the next delayed run is due.
CREATE OR REPLACE FUNCTION heddle.claim_runs(p_tokens uuid[], p_lease interval, p_again boolean)
RETURNS TABLE (
    run_id uuid, thread_id uuid, assistant_id uuid, graph_id text, created_at timestamptz, updated_at timestamptz,
    metadata text, kwargs text, multitask_strategy text, resumable boolean, ephemeral boolean, attempt integer,
    lease_token uuid, thread_metadata text, thread_config text, next_due interval,
    head_id text, head_parent text, head_checkpoint text, head_metadata text,
    head_channels text[], head_versions text[], head_types text[], head_blobs bytea[],
    head_write_tasks text[], head_write_paths text[], head_write_idxs integer[],
    head_write_channels text[], head_write_types text[], head_write_blobs bytea[],
    head_send_types text[], head_send_blobs bytea[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := clock_timestamp();
    threads uuid[];
    taken uuid[];
BEGIN
    IF p_again THEN
        SELECT array_agg(r.run_id) INTO taken
          FROM heddle.run r WHERE r.status = 'running' AND r.lease_token = ANY (p_tokens);
    END IF;
    -- The oldest due run of every thread without a running one, oldest first.
    IF taken IS NULL THEN
        SELECT array_agg(found.thread_id) INTO threads FROM (
            SELECT t.thread_id
              FROM heddle.run r JOIN heddle.thread t ON t.thread_id = r.thread_id
             WHERE r.status = 'pending' AND r.created_at <= moment
               AND NOT EXISTS (SELECT FROM heddle.run busy
                                WHERE busy.thread_id = r.thread_id AND busy.status = 'running')
               AND NOT EXISTS (SELECT FROM heddle.run older
                                WHERE older.thread_id = r.thread_id AND older.status = 'pending'
                                  AND (older.created_at, older.run_id) < (r.created_at, r.run_id))
             ORDER BY r.created_at
             LIMIT cardinality(p_tokens)
               FOR NO KEY UPDATE OF t SKIP LOCKED) found;
    END IF;

    IF threads IS NOT NULL THEN
        WITH head AS (
            SELECT DISTINCT ON (r.thread_id) r.run_id, r.created_at
              FROM heddle.run r
             WHERE r.thread_id = ANY (threads) AND r.status = 'pending' AND r.created_at <= moment
               AND NOT EXISTS (SELECT FROM heddle.run busy
                                WHERE busy.thread_id = r.thread_id AND busy.status = 'running')
             ORDER BY r.thread_id, r.created_at, r.run_id
        ), numbered AS (
            SELECT head.run_id, row_number() OVER (ORDER BY head.run_id) AS place FROM head
        ), claimed AS (
            UPDATE heddle.run r
               SET status = 'running', attempt = r.attempt + 1, lease_token = p_tokens[numbered.place],
                   lease_until = moment + p_lease, started_at = coalesce(r.started_at, moment), updated_at = moment
              FROM numbered
             WHERE r.run_id = numbered.run_id AND r.status = 'pending'
            RETURNING r.run_id
        )
        SELECT array_agg(claimed.run_id) INTO taken FROM claimed;

        -- What a rollback will need is noted before the first attempt; later attempts start from the same base.
        -- A base that the caller asked for is in the row since it was inserted.
        UPDATE heddle.run r
           SET base_checkpoint_id = base.id, base_writes = heddle.note_base(r.thread_id::text, base.id)
          FROM (SELECT first.run_id,
                       coalesce(first.base_checkpoint_id,
                                (SELECT max(c.checkpoint_id) FROM checkpoints c
                                  WHERE c.thread_id = first.thread_id::text AND c.checkpoint_ns = '')) AS id
                  FROM heddle.run first
                 WHERE first.run_id = ANY (taken) AND first.attempt = 1) base
         WHERE r.run_id = base.run_id AND base.id IS NOT NULL;
    END IF;

    RETURN QUERY
        SELECT r.run_id, r.thread_id, r.assistant_id, r.graph_id, r.created_at, r.updated_at, r.metadata::text,
               r.kwargs::text, r.multitask_strategy, r.resumable, r.ephemeral, r.attempt, r.lease_token,
               t.metadata::text, t.config::text, NULL::interval, h.*
          FROM heddle.run r
          JOIN heddle.thread t ON t.thread_id = r.thread_id
         CROSS JOIN LATERAL heddle.latest_checkpoint(r.thread_id::text) h
         WHERE r.run_id = ANY (taken)
         ORDER BY r.created_at, r.run_id;
    next_due := (SELECT min(r.created_at) FROM heddle.run r WHERE r.status = 'pending' AND r.created_at > moment)
                - clock_timestamp();
    run_id := NULL;
    RETURN NEXT;
END;
$$;
