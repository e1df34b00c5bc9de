-- Remove what a run stored on its thread: its checkpoints in every namespace, their writes, writes left for checkpoints
-- that never came, and blobs that no kept checkpoint refers to. The writes on its base become what they were when the
-- run was opened (p_base_writes, as noted by note_base), and the thread belongs to the graph of its newest checkpoint
-- again. The thread row must be locked.
CREATE OR REPLACE FUNCTION heddle.rollback_checkpoints(p_thread text, p_run text, p_base text, p_base_writes jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM heddle.delete_run_checkpoints(p_thread, ARRAY[p_run]);
    DELETE FROM checkpoint_writes w
     USING (SELECT DISTINCT checkpoint_ns, checkpoint_id FROM checkpoint_writes
             WHERE thread_id = p_thread AND checkpoint_id > coalesce(p_base, '')
            EXCEPT
            SELECT checkpoint_ns, checkpoint_id FROM checkpoints WHERE thread_id = p_thread) orphan
     WHERE w.thread_id = p_thread AND w.checkpoint_ns = orphan.checkpoint_ns
       AND w.checkpoint_id = orphan.checkpoint_id;
    DELETE FROM checkpoint_writes w
     USING heddle.base_checkpoints(p_thread, p_base) b
     WHERE w.thread_id = p_thread AND w.checkpoint_ns = b.checkpoint_ns AND w.checkpoint_id = b.checkpoint_id;
    INSERT INTO checkpoint_writes
           (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT p_thread, n ->> 0, n ->> 1, n ->> 2, n ->> 3, (n ->> 4)::integer, n ->> 5, n ->> 6,
           decode(n ->> 7, 'base64')
      FROM jsonb_array_elements(coalesce(p_base_writes, '[]')) AS n
        ON CONFLICT DO NOTHING;
    -- The thread is read with the graph of its newest checkpoint, which may not be the graph of the run that goes.
    UPDATE heddle.thread t
       SET metadata = t.metadata || jsonb_strip_nulls(jsonb_build_object(
               'graph_id', head.metadata -> 'graph_id', 'assistant_id', head.metadata -> 'assistant_id'))
      FROM (SELECT c.metadata FROM checkpoints c
             WHERE c.thread_id = p_thread AND c.checkpoint_ns = ''
             ORDER BY c.checkpoint_id DESC LIMIT 1) head
     WHERE t.thread_id = p_thread::uuid;
END;
$$;
