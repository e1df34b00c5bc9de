-- The writes pending on the checkpoint a run starts from, and on the subgraph checkpoints below it, for
-- rollback_checkpoints to put back. NULL when there are none, which is usual.
CREATE OR REPLACE FUNCTION heddle.note_base(p_thread text, p_base text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_agg(jsonb_build_array(
               w.checkpoint_ns, w.checkpoint_id, w.task_id, w.task_path, w.idx, w.channel, w.type,
               encode(w.blob, 'base64')))
      FROM heddle.base_checkpoints(p_thread, p_base) b
      JOIN checkpoint_writes w
        ON w.thread_id = p_thread AND w.checkpoint_ns = b.checkpoint_ns AND w.checkpoint_id = b.checkpoint_id;
$$;
