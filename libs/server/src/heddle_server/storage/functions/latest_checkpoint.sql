-- The newest checkpoint of a thread (of the root graph, unless told otherwise), or the one with this id: with its
-- channel blobs, its pending writes in the order they apply and, for checkpoints older than format 4, the sends pending
-- on its parent. Always one row; all NULL when there is none.
CREATE OR REPLACE FUNCTION heddle.latest_checkpoint(
    p_thread text, p_ns text DEFAULT '', p_id text DEFAULT NULL,
    OUT head_id text, OUT head_parent text, OUT head_checkpoint text, OUT head_metadata text,
    OUT head_channels text[], OUT head_versions text[], OUT head_types text[], OUT head_blobs bytea[],
    OUT head_write_tasks text[], OUT head_write_paths text[], OUT head_write_idxs integer[],
    OUT head_write_channels text[], OUT head_write_types text[], OUT head_write_blobs bytea[],
    OUT head_send_types text[], OUT head_send_blobs bytea[]
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    content jsonb;
BEGIN
    IF p_id IS NULL THEN
        SELECT c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint, c.metadata::text
          INTO head_id, head_parent, content, head_metadata
          FROM checkpoints c
         WHERE c.thread_id = p_thread AND c.checkpoint_ns = p_ns
         ORDER BY c.checkpoint_id DESC
         LIMIT 1;
    ELSE
        SELECT c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint, c.metadata::text
          INTO head_id, head_parent, content, head_metadata
          FROM checkpoints c
         WHERE c.thread_id = p_thread AND c.checkpoint_ns = p_ns AND c.checkpoint_id = p_id;
    END IF;
    IF head_id IS NULL THEN
        RETURN;
    END IF;
    head_checkpoint := content::text;
    SELECT array_agg(b.channel), array_agg(b.version), array_agg(b.type), array_agg(b.blob)
      INTO head_channels, head_versions, head_types, head_blobs
      FROM jsonb_each_text(content -> 'channel_versions') AS v(channel, version)
      JOIN checkpoint_blobs b
        ON b.thread_id = p_thread AND b.checkpoint_ns = p_ns AND b.channel = v.channel AND b.version = v.version;
    SELECT array_agg(w.task_id), array_agg(w.task_path), array_agg(w.idx), array_agg(w.channel),
           array_agg(w.type), array_agg(w.blob)
      INTO head_write_tasks, head_write_paths, head_write_idxs, head_write_channels, head_write_types,
           head_write_blobs
      FROM (SELECT * FROM checkpoint_writes
             WHERE thread_id = p_thread AND checkpoint_ns = p_ns AND checkpoint_id = head_id
             ORDER BY task_path COLLATE "C", task_id COLLATE "C", idx) w;
    IF head_parent IS NOT NULL AND (content ->> 'v')::integer < 4 THEN
        SELECT array_agg(s.type), array_agg(s.blob) INTO head_send_types, head_send_blobs
          FROM (SELECT * FROM checkpoint_writes
                 WHERE thread_id = p_thread AND checkpoint_ns = p_ns AND checkpoint_id = head_parent
                   AND channel = '__pregel_tasks'
                 ORDER BY task_path COLLATE "C", task_id COLLATE "C", idx) s;
    END IF;
END;
$$;
