-- Remove what these runs stored, on whatever threads.
CREATE OR REPLACE FUNCTION heddle.delete_checkpoints_of(p_runs text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found_thread text;
BEGIN
    FOR found_thread IN
        SELECT DISTINCT thread_id FROM checkpoints WHERE metadata ->> 'run_id' = ANY (p_runs) ORDER BY thread_id
    LOOP
        PERFORM heddle.delete_run_checkpoints(found_thread, p_runs);
    END LOOP;
END;
$$;
