-- Remove every checkpoint, blob and write of these threads.
CREATE OR REPLACE FUNCTION heddle.delete_checkpoints(p_threads text[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM checkpoints WHERE thread_id = ANY (p_threads);
    DELETE FROM checkpoint_blobs WHERE thread_id = ANY (p_threads);
    DELETE FROM checkpoint_writes WHERE thread_id = ANY (p_threads);
$$;
