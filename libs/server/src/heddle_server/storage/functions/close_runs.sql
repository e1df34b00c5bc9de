-- End attempts: the rest of their checkpoint rows, their outcomes and what their threads show, in one commit.
-- The first ten arrays are parallel, one entry per run. Returns one row per run that was still owned; of any other run
-- nothing is written. `kind` is an outcome: success, error, timeout, interrupted, rolled_back, released.
--   p_saw_state: values, interrupts, has_next are what the run's last checkpoint shows; else the thread keeps its own.
--   p_resting: the thread's status once it is idle; NULL: what its last known checkpoint says.
-- A run that was asked to stop and is given back instead ends by that request: nobody is to start it again. A rollback
-- that was asked for before this is honoured however the run ended, as it was promised; `kind` says what was written.
-- The hidden thread of a run that is watched from elsewhere stays until reap_runs removes it: its end is read there.
-- A run id may come only once: rows are known by their run, so two claims of one run must not share a call.
-- Lock order: threads by id, runs by id, checkpoint tables.
CREATE OR REPLACE FUNCTION heddle.close_runs(
    p_runs uuid[], p_threads uuid[], p_tokens uuid[], p_kinds text[], p_errors text[], p_heads text[],
    p_saw_state boolean[], p_values text[], p_interrupts text[], p_has_next boolean[], p_resting text[],
    c_run uuid[], c_thread text[], c_ns text[], c_id text[], c_parent text[], c_checkpoint text[], c_metadata text[],
    b_run uuid[], b_thread text[], b_ns text[], b_channel text[], b_version text[], b_type text[], b_blob bytea[],
    w_run uuid[], w_thread text[], w_ns text[], w_id text[], w_task text[], w_path text[], w_idx integer[],
    w_channel text[], w_type text[], w_blob bytea[]
) RETURNS TABLE (run_id uuid, successor_due boolean, kind text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    own uuid[];
    stored uuid[];
    ended record;
    gone uuid[] := '{}';
    released boolean := false;
BEGIN
    PERFORM FROM heddle.thread t WHERE t.thread_id = ANY (p_threads) ORDER BY t.thread_id FOR NO KEY UPDATE;
    SELECT array_agg(held.run_id), array_agg(held.run_id) FILTER (WHERE held.kept) INTO own, stored
      FROM (SELECT r.run_id, NOT r.ephemeral OR r.watched OR closing.kind = 'released' AS kept
              FROM unnest(p_runs, p_tokens, p_kinds) AS closing(run_id, token, kind)
              JOIN heddle.run r ON r.run_id = closing.run_id
             WHERE r.lease_token = closing.token AND r.status = 'running'
             ORDER BY r.run_id
               FOR NO KEY UPDATE OF r) held;
    IF own IS NULL THEN
        RETURN;
    END IF;
    moment := clock_timestamp();
    -- The rows of a run whose thread goes with it need not be written first.
    IF stored IS NOT NULL THEN
        PERFORM heddle.write_rows(
            stored,
            c_run, c_thread, c_ns, c_id, c_parent, c_checkpoint, c_metadata,
            b_run, b_thread, b_ns, b_channel, b_version, b_type, b_blob,
            w_run, w_thread, w_ns, w_id, w_task, w_path, w_idx, w_channel, w_type, w_blob);
    END IF;

    FOR ended IN
        SELECT r.run_id, r.thread_id, r.ephemeral, r.watched, r.base_checkpoint_id, r.base_writes,
               CASE WHEN r.cancel_action = 'rollback' THEN 'rolled_back'
                    WHEN closing.kind = 'released' AND r.cancel_action = 'interrupt' THEN 'interrupted'
                    ELSE closing.kind END AS kind,
               closing.error::jsonb AS error, closing.head, closing.saw_state, closing.state_values::jsonb AS values,
               closing.interrupts::jsonb AS interrupts, closing.has_next, closing.resting
          FROM unnest(p_runs, p_tokens, p_kinds, p_errors, p_heads, p_saw_state, p_values, p_interrupts, p_has_next,
                      p_resting)
               AS closing(run_id, token, kind, error, head, saw_state, state_values, interrupts, has_next, resting)
          JOIN heddle.run r ON r.run_id = closing.run_id AND r.lease_token = closing.token
         WHERE r.run_id = ANY (own)
    LOOP
        IF ended.kind = 'released' THEN
            UPDATE heddle.run r
               SET status = 'pending', lease_token = NULL, lease_until = NULL, updated_at = moment
             WHERE r.run_id = ended.run_id;
            released := true;
        ELSIF ended.ephemeral AND NOT ended.watched THEN
            gone := gone || ended.thread_id;
        ELSIF ended.kind = 'rolled_back' THEN
            PERFORM heddle.rollback_checkpoints(ended.thread_id::text, ended.run_id::text, ended.base_checkpoint_id,
                                                ended.base_writes);
            DELETE FROM heddle.run r WHERE r.run_id = ended.run_id;
            PERFORM heddle.settle_threads(ARRAY[ended.thread_id]);
        ELSE
            UPDATE heddle.run r
               SET status = ended.kind, error = ended.error, head_checkpoint_id = ended.head, lease_token = NULL,
                   lease_until = NULL, cancel_action = NULL, ended_at = moment, updated_at = moment
             WHERE r.run_id = ended.run_id;
            UPDATE heddle.thread t
               SET values = CASE WHEN ended.saw_state THEN coalesce(ended.values, t.values) ELSE t.values END,
                   interrupts = CASE WHEN ended.saw_state THEN coalesce(ended.interrupts, '{}') ELSE t.interrupts END,
                   has_next = CASE WHEN ended.saw_state THEN ended.has_next ELSE t.has_next END,
                   state_updated_at = CASE WHEN ended.saw_state THEN moment ELSE t.state_updated_at END,
                   error = ended.error,
                   resting_status = rest.status,
                   status = CASE WHEN EXISTS (SELECT FROM heddle.run next
                                               WHERE next.thread_id = t.thread_id
                                                 AND next.status IN ('pending', 'running'))
                                 THEN 'busy' ELSE rest.status END,
                   updated_at = moment
              FROM (SELECT x.thread_id, coalesce(ended.resting,
                                    CASE WHEN x.has_next THEN 'interrupted' ELSE 'idle' END) AS status
                      FROM heddle.thread x WHERE x.thread_id = ended.thread_id) rest
             WHERE t.thread_id = rest.thread_id;
        END IF;
        IF ended.watched AND ended.kind <> 'released' THEN
            PERFORM pg_notify('heddle', 'run_ended ' || ended.run_id);
        END IF;
        run_id := ended.run_id;
        kind := ended.kind;
        successor_due := NOT ended.ephemeral AND EXISTS (
            SELECT FROM heddle.run next
             WHERE next.thread_id = ended.thread_id AND next.status = 'pending' AND next.created_at <= moment
               AND next.run_id <> ended.run_id);
        RETURN NEXT;
    END LOOP;
    PERFORM heddle.drop_threads(gone);
    IF released THEN
        PERFORM pg_notify('heddle', 'run_ready');
    END IF;
END;
$$;
