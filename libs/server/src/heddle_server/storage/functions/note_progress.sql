-- What a run left behind that ended outside its owner's hands: the root checkpoint it came to, and on its thread that
-- there is more to do, which is so if that checkpoint is the run's own. Only its graph could read the newer values, so
-- the thread keeps those it shows. The thread row must be locked.
CREATE OR REPLACE FUNCTION heddle.note_progress(p_thread uuid, p_run uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    head text;
    own boolean;
BEGIN
    SELECT c.checkpoint_id, c.metadata ->> 'run_id' = p_run::text INTO head, own
      FROM checkpoints c
     WHERE c.thread_id = p_thread::text AND c.checkpoint_ns = ''
     ORDER BY c.checkpoint_id DESC
     LIMIT 1;
    UPDATE heddle.run r SET head_checkpoint_id = head WHERE r.run_id = p_run;
    UPDATE heddle.thread t
       SET has_next = t.has_next OR coalesce(own, false),
           resting_status = CASE WHEN t.has_next OR coalesce(own, false) THEN 'interrupted' ELSE 'idle' END
     WHERE t.thread_id = p_thread;
END;
$$;
