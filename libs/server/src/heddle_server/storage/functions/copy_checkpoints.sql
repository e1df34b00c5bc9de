-- Copy every checkpoint, blob and write of one thread to another, complete chain included. Rows the target has stay.
CREATE OR REPLACE FUNCTION heddle.copy_checkpoints(p_source text, p_target text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT p_target, checkpoint_ns, channel, version, type, blob FROM checkpoint_blobs WHERE thread_id = p_source
        ON CONFLICT DO NOTHING;
    INSERT INTO checkpoints
           (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
    SELECT p_target, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
      FROM checkpoints WHERE thread_id = p_source
        ON CONFLICT DO NOTHING;
    INSERT INTO checkpoint_writes
           (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT p_target, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
      FROM checkpoint_writes WHERE thread_id = p_source
        ON CONFLICT DO NOTHING;
$$;
