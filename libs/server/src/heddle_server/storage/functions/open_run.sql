-- Insert a run born claimed, if its thread is idle; otherwise write nothing and say why in `refusal`: busy, no_thread,
-- no_assistant, stale_assistant, or locked (only with p_skip_locked: somebody holds the thread row, ask again alone).
-- Returns what a claim needs, the newest root checkpoint included. Each statement in here takes a snapshot of its own,
-- so what was committed while this waited for the thread row is seen; one statement with CTEs would not see it.
-- A second call with the run id and token of a run that was opened finds that run and returns it again.
-- p_base: the checkpoint the caller wants to start from; NULL: the newest.
CREATE OR REPLACE FUNCTION heddle.open_run(
    p_run uuid, p_thread uuid, p_assistant uuid, p_version integer, p_graph text, p_metadata text, p_kwargs text,
    p_strategy text, p_resumable boolean, p_ephemeral boolean, p_create boolean, p_token uuid, p_lease interval,
    p_base text, p_skip_locked boolean,
    OUT refusal text, OUT created_at timestamptz, OUT updated_at timestamptz, OUT metadata text,
    OUT thread_metadata text, OUT thread_config text,
    OUT head_id text, OUT head_parent text, OUT head_checkpoint text, OUT head_metadata text,
    OUT head_channels text[], OUT head_versions text[], OUT head_types text[], OUT head_blobs bytea[],
    OUT head_write_tasks text[], OUT head_write_paths text[], OUT head_write_idxs integer[],
    OUT head_write_channels text[], OUT head_write_types text[], OUT head_write_blobs bytea[],
    OUT head_send_types text[], OUT head_send_blobs bytea[]
) LANGUAGE plpgsql AS $$
DECLARE
    names jsonb := jsonb_build_object('graph_id', p_graph, 'assistant_id', p_assistant);
    old_metadata jsonb := '{}';
    assistant_now integer;
    hidden boolean;
    taken_run uuid;
    taken_token uuid;
    moment timestamptz;
    created boolean := false;
BEGIN
    LOOP
        IF p_skip_locked THEN
            SELECT t.metadata, t.config::text, t.ephemeral INTO old_metadata, thread_config, hidden
              FROM heddle.thread t WHERE t.thread_id = p_thread FOR NO KEY UPDATE SKIP LOCKED;
            IF NOT FOUND AND EXISTS (SELECT FROM heddle.thread t WHERE t.thread_id = p_thread) THEN
                refusal := 'locked';
                RETURN;
            END IF;
        ELSE
            SELECT t.metadata, t.config::text, t.ephemeral INTO old_metadata, thread_config, hidden
              FROM heddle.thread t WHERE t.thread_id = p_thread FOR NO KEY UPDATE;
        END IF;
        IF hidden IS NOT NULL THEN
            SELECT r.run_id, r.lease_token, r.created_at, r.updated_at, r.metadata::text
              INTO taken_run, taken_token, created_at, updated_at, metadata
              FROM heddle.run r
             WHERE r.thread_id = p_thread AND r.status IN ('pending', 'running')
             LIMIT 1;
            EXIT WHEN taken_run IS NOT NULL;
        END IF;
        SELECT a.version INTO assistant_now FROM heddle.assistant a WHERE a.assistant_id = p_assistant;
        refusal := CASE WHEN assistant_now IS NULL THEN 'no_assistant'
                        WHEN assistant_now <> p_version THEN 'stale_assistant'
                        WHEN hidden AND NOT p_ephemeral THEN 'no_thread'
                        WHEN hidden IS NULL AND NOT p_create THEN 'no_thread' END;
        IF refusal IS NOT NULL THEN
            RETURN;
        END IF;
        EXIT WHEN hidden IS NOT NULL;
        INSERT INTO heddle.thread AS t (thread_id, metadata, status, ephemeral)
        VALUES (p_thread, names, 'busy', p_ephemeral)
            ON CONFLICT DO NOTHING
        RETURNING t.config::text INTO thread_config;
        created := FOUND;
        EXIT WHEN created;
        -- Somebody else created it a moment ago: lock theirs.
    END LOOP;

    IF taken_run IS NOT NULL AND (taken_run <> p_run OR taken_token IS DISTINCT FROM p_token) THEN
        refusal := 'busy';
        RETURN;
    END IF;

    -- A hidden thread that was made just now is nobody's old data: it has no checkpoints to look for.
    IF NOT (created AND p_ephemeral) THEN
        SELECT h.* INTO head_id, head_parent, head_checkpoint, head_metadata, head_channels, head_versions, head_types,
               head_blobs, head_write_tasks, head_write_paths, head_write_idxs, head_write_channels, head_write_types,
               head_write_blobs, head_send_types, head_send_blobs
          FROM heddle.latest_checkpoint(p_thread::text) h;
    END IF;
    IF taken_run IS NOT NULL THEN
        thread_metadata := old_metadata::text;
        RETURN;
    END IF;

    moment := clock_timestamp();
    created_at := moment;
    updated_at := moment;
    metadata := (coalesce(old_metadata, '{}') || p_metadata::jsonb || names)::text;
    thread_metadata := (coalesce(old_metadata, '{}') || names)::text;
    INSERT INTO heddle.run (run_id, thread_id, assistant_id, graph_id, status, metadata, kwargs, multitask_strategy,
                            resumable, ephemeral, created_at, updated_at, started_at, attempt, lease_token,
                            lease_until, base_checkpoint_id, base_writes)
    VALUES (p_run, p_thread, p_assistant, p_graph, 'running', metadata::jsonb, p_kwargs::json, p_strategy,
            p_resumable, p_ephemeral, moment, moment, moment, 1, p_token,
            moment + p_lease, coalesce(p_base, head_id),
            CASE WHEN coalesce(p_base, head_id) IS NOT NULL
                 THEN heddle.note_base(p_thread::text, coalesce(p_base, head_id)) END);
    IF NOT created THEN
        UPDATE heddle.thread t
           SET status = 'busy', metadata = thread_metadata::jsonb, updated_at = moment
         WHERE t.thread_id = p_thread;
    END IF;
END;
$$;
