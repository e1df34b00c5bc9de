-- What a thread's row shows, now that a run of it ended or went: busy while runs are in flight, else how it rests.
-- The thread row must be locked.
CREATE OR REPLACE FUNCTION heddle.settle_threads(p_threads uuid[]) RETURNS void LANGUAGE sql AS $$
    UPDATE heddle.thread t
       SET status = CASE WHEN EXISTS (SELECT FROM heddle.run r
                                       WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'))
                         THEN 'busy' ELSE t.resting_status END,
           updated_at = now()
     WHERE t.thread_id = ANY (p_threads);
$$;
