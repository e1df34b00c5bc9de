-- Take runs from owners whose lease has ended. A run that was asked to stop ends by that request; one that had its
-- p_max_attempts attempts ends as an error and frees its thread; any other is pending again. Hidden threads whose run
-- is over are removed, those that somebody watched five minutes later. Returns the runs taken. What somebody holds at
-- this moment is left for the next sweep.
-- A run that ends here leaves the thread's values as they were, since only its graph could read the newer checkpoints;
-- that there is more to do is seen from whether the newest root checkpoint is the run's own.
CREATE OR REPLACE FUNCTION heddle.reap_runs(p_max_attempts integer, p_limit integer)
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    threads uuid[];
    lost record;
    kind text;
    failure jsonb;
    gone uuid[] := '{}';
    ready boolean := false;
BEGIN
    SELECT array_agg(held.thread_id) INTO threads FROM (
        SELECT t.thread_id FROM heddle.thread t
         WHERE t.thread_id IN (SELECT r.thread_id FROM heddle.run r
                                WHERE r.status = 'running' AND r.lease_until < moment
                                ORDER BY r.lease_until LIMIT p_limit)
         ORDER BY t.thread_id
           FOR NO KEY UPDATE SKIP LOCKED) held;

    FOR lost IN
        SELECT r.* FROM heddle.run r
         WHERE r.thread_id = ANY (threads) AND r.status = 'running' AND r.lease_until < moment
         ORDER BY r.run_id
           FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        kind := CASE WHEN lost.cancel_action = 'rollback' THEN 'rolled_back'
                     WHEN lost.cancel_action = 'interrupt' THEN 'interrupted'
                     WHEN lost.attempt >= p_max_attempts THEN 'error'
                     ELSE 'pending' END;
        IF kind = 'pending' THEN
            UPDATE heddle.run r
               SET status = 'pending', lease_token = NULL, lease_until = NULL, updated_at = moment
             WHERE r.run_id = lost.run_id;
            ready := true;
        ELSIF lost.ephemeral AND NOT lost.watched THEN
            gone := gone || lost.thread_id;
        ELSIF kind = 'rolled_back' THEN
            PERFORM heddle.rollback_checkpoints(lost.thread_id::text, lost.run_id::text, lost.base_checkpoint_id,
                                                lost.base_writes);
            DELETE FROM heddle.run r WHERE r.run_id = lost.run_id;
            PERFORM heddle.settle_threads(ARRAY[lost.thread_id]);
        ELSE
            failure := CASE WHEN kind = 'error' THEN jsonb_build_object(
                'error', 'WorkerLost',
                'message', format('The process that executed this run was lost, %s times in all.', lost.attempt)) END;
            UPDATE heddle.run r
               SET status = kind, error = failure, lease_token = NULL, lease_until = NULL, cancel_action = NULL,
                   ended_at = moment, updated_at = moment
             WHERE r.run_id = lost.run_id;
            PERFORM heddle.note_progress(lost.thread_id, lost.run_id);
            UPDATE heddle.thread t
               SET error = failure,
                   resting_status = CASE WHEN kind = 'error' THEN 'error' ELSE t.resting_status END
             WHERE t.thread_id = lost.thread_id;
            PERFORM heddle.settle_threads(ARRAY[lost.thread_id]);
        END IF;
        IF kind <> 'pending' AND lost.watched THEN
            PERFORM pg_notify('heddle', 'run_ended ' || lost.run_id);
        END IF;
        ready := ready OR EXISTS (SELECT FROM heddle.run r
                                   WHERE r.thread_id = lost.thread_id AND r.status = 'pending'
                                     AND r.created_at <= moment);
        RETURN NEXT lost.run_id;
    END LOOP;

    SELECT gone || coalesce(array_agg(hidden.thread_id), '{}') INTO gone FROM (
        SELECT t.thread_id FROM heddle.thread t
         WHERE t.ephemeral
           AND NOT EXISTS (SELECT FROM heddle.run r
                            WHERE r.thread_id = t.thread_id
                              AND (r.status IN ('pending', 'running')
                                   OR r.watched AND r.ended_at > moment - interval '5 minutes'))
         ORDER BY t.thread_id LIMIT p_limit
           FOR NO KEY UPDATE SKIP LOCKED) hidden;
    -- A second look, now that they are locked.
    SELECT coalesce(array_agg(g.thread_id), '{}') INTO gone
      FROM unnest(gone) AS g(thread_id)
     WHERE NOT EXISTS (SELECT FROM heddle.run r
                        WHERE r.thread_id = g.thread_id AND r.status IN ('pending', 'running')
                          AND NOT (r.status = 'running' AND r.lease_until < moment));
    PERFORM heddle.drop_threads(gone);
    IF ready THEN
        PERFORM pg_notify('heddle', 'run_ready');
    END IF;
END;
$$;
