-- Store checkpoint rows of claimed runs. Returns the runs still owned; a run that is missing has lost its claim, and
-- nothing of it was written. The row locks last until the commit, so a takeover waits for this flush or refuses it.
CREATE OR REPLACE FUNCTION heddle.flush_rows(
    p_runs uuid[], p_tokens uuid[],
    c_run uuid[], c_thread text[], c_ns text[], c_id text[], c_parent text[], c_checkpoint text[], c_metadata text[],
    b_run uuid[], b_thread text[], b_ns text[], b_channel text[], b_version text[], b_type text[], b_blob bytea[],
    w_run uuid[], w_thread text[], w_ns text[], w_id text[], w_task text[], w_path text[], w_idx integer[],
    w_channel text[], w_type text[], w_blob bytea[]
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    own uuid[];
BEGIN
    SELECT coalesce(array_agg(held.run_id), '{}') INTO own
      FROM (SELECT r.run_id
              FROM unnest(p_runs, p_tokens) AS claim(run_id, token)
              JOIN heddle.run r ON r.run_id = claim.run_id
             WHERE r.lease_token = claim.token AND r.status = 'running'
             ORDER BY r.run_id
               FOR NO KEY UPDATE OF r) held;
    PERFORM heddle.write_rows(
        own,
        c_run, c_thread, c_ns, c_id, c_parent, c_checkpoint, c_metadata,
        b_run, b_thread, b_ns, b_channel, b_version, b_type, b_blob,
        w_run, w_thread, w_ns, w_id, w_task, w_path, w_idx, w_channel, w_type, w_blob);
    RETURN own;
END;
$$;
