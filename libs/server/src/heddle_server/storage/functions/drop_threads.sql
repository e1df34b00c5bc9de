-- Remove threads with everything that hangs on them. Their rows must be locked.
CREATE OR REPLACE FUNCTION heddle.drop_threads(p_threads uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(p_threads) > 0 THEN
        PERFORM heddle.delete_checkpoints(p_threads::text[]);
        DELETE FROM heddle.thread WHERE thread_id = ANY (p_threads);
    END IF;
END;
$$;
