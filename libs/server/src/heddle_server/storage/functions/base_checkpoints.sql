-- The checkpoint a run starts from and the subgraph checkpoints of the superstep that was under way on it: those on
-- which a resumed run leaves its first writes. Subgraph checkpoints are younger than the root one they belong to.
CREATE OR REPLACE FUNCTION heddle.base_checkpoints(p_thread text, p_base text)
RETURNS TABLE (checkpoint_ns text, checkpoint_id text) LANGUAGE sql STABLE AS $$
    SELECT '', p_base WHERE p_base IS NOT NULL
    UNION ALL
    SELECT c.checkpoint_ns, c.checkpoint_id
      FROM checkpoints c
     WHERE c.thread_id = p_thread AND c.checkpoint_ns > '' AND c.checkpoint_id > p_base
       AND c.metadata -> 'parents' ->> '' = p_base;
$$;
