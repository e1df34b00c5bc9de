-- Remove the checkpoints that these runs made on a thread, with their writes and the blobs nothing refers to any more.
-- Blobs are shared between checkpoints and forks: garbage is what was freed minus what is still referred to.
CREATE OR REPLACE FUNCTION heddle.delete_run_checkpoints(p_thread text, p_runs text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    gone_ns text[];
    gone_id text[];
    gone_versions jsonb[];
BEGIN
    WITH deleted AS (
        DELETE FROM checkpoints c
         WHERE c.thread_id = p_thread AND c.metadata ->> 'run_id' = ANY (p_runs)
        RETURNING c.checkpoint_ns, c.checkpoint_id, c.checkpoint -> 'channel_versions' AS versions
    )
    SELECT array_agg(checkpoint_ns), array_agg(checkpoint_id), array_agg(versions)
      INTO gone_ns, gone_id, gone_versions FROM deleted;
    IF gone_id IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM checkpoint_writes w
     USING unnest(gone_ns, gone_id) AS gone(ns, id)
     WHERE w.thread_id = p_thread AND w.checkpoint_ns = gone.ns AND w.checkpoint_id = gone.id;
    DELETE FROM checkpoint_blobs b
     USING (SELECT gone.ns, v.key AS channel, v.value AS version
              FROM unnest(gone_ns, gone_versions) AS gone(ns, versions), jsonb_each_text(gone.versions) v
            EXCEPT
            SELECT c.checkpoint_ns, v.key, v.value
              FROM checkpoints c, jsonb_each_text(c.checkpoint -> 'channel_versions') v
             WHERE c.thread_id = p_thread AND c.checkpoint_ns = ANY (gone_ns)) garbage
     WHERE b.thread_id = p_thread AND b.checkpoint_ns = garbage.ns
       AND b.channel = garbage.channel AND b.version = garbage.version;
END;
$$;
