-- Store checkpoint rows of the runs in p_own; rows of any other run are left out.
-- The caller fences (flush_rows, close_runs) or owns the thread row (a state update). Arrays of one group are parallel
-- and hold no key twice. Reserved writes (idx < 0: error, interrupt, resume) replace, ordinary ones keep the first.
CREATE OR REPLACE FUNCTION heddle.write_rows(
    p_own uuid[],
    c_run uuid[], c_thread text[], c_ns text[], c_id text[], c_parent text[], c_checkpoint text[], c_metadata text[],
    b_run uuid[], b_thread text[], b_ns text[], b_channel text[], b_version text[], b_type text[], b_blob bytea[],
    w_run uuid[], w_thread text[], w_ns text[], w_id text[], w_task text[], w_path text[], w_idx integer[],
    w_channel text[], w_type text[], w_blob bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(b_run) > 0 THEN
        INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
        SELECT r.thread, r.ns, r.channel, r.version, r.type, r.blob
          FROM unnest(b_run, b_thread, b_ns, b_channel, b_version, b_type, b_blob)
               AS r(run, thread, ns, channel, version, type, blob)
         WHERE r.run = ANY (p_own)
            ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING;
    END IF;
    IF cardinality(c_run) > 0 THEN
        INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
        SELECT r.thread, r.ns, r.id, r.parent, r.checkpoint::jsonb, r.metadata::jsonb
          FROM unnest(c_run, c_thread, c_ns, c_id, c_parent, c_checkpoint, c_metadata)
               AS r(run, thread, ns, id, parent, checkpoint, metadata)
         WHERE r.run = ANY (p_own)
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
            DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata;
    END IF;
    IF cardinality(w_run) > 0 THEN
        INSERT INTO checkpoint_writes
               (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
        SELECT r.thread, r.ns, r.id, r.task, r.path, r.idx, r.channel, r.type, r.blob
          FROM unnest(w_run, w_thread, w_ns, w_id, w_task, w_path, w_idx, w_channel, w_type, w_blob)
               AS r(run, thread, ns, id, task, path, idx, channel, type, blob)
         WHERE r.run = ANY (p_own)
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
            DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob
            WHERE checkpoint_writes.idx < 0;
    END IF;
END;
$$;
