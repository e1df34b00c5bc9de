-- Keep the newest checkpoint of each namespace of a thread. A subgraph call (its namespace names a task) goes with
-- the root checkpoint it was made from, once that one is stored and is not kept. A checkpoint older than format 4 keeps
-- its parent when that holds sends. Nothing may write to the thread meanwhile.
CREATE OR REPLACE FUNCTION heddle.prune_checkpoints(p_thread text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    keep_ns text[];
    keep_id text[];
BEGIN
    WITH head AS (
        SELECT DISTINCT ON (c.checkpoint_ns)
               c.checkpoint_ns AS ns, c.checkpoint_id AS id, c.parent_checkpoint_id AS parent,
               (c.checkpoint ->> 'v')::integer AS format, c.metadata -> 'parents' ->> '' AS root
          FROM checkpoints c
         WHERE c.thread_id = p_thread
         ORDER BY c.checkpoint_ns, c.checkpoint_id DESC
    ), root AS (
        SELECT id FROM head WHERE ns = ''
        UNION ALL
        SELECT parent FROM head WHERE ns = '' AND format < 4 AND parent IS NOT NULL
    ), kept AS (
        SELECT * FROM head
         WHERE NOT (strpos(ns, ':') > 0 AND root IS NOT NULL
                    AND root NOT IN (SELECT id FROM root WHERE id IS NOT NULL)
                    AND EXISTS (SELECT FROM checkpoints r
                                 WHERE r.thread_id = p_thread AND r.checkpoint_ns = '' AND r.checkpoint_id = head.root))
    )
    SELECT array_agg(k.ns), array_agg(k.id) INTO keep_ns, keep_id
      FROM (SELECT ns, id FROM kept
            UNION ALL
            SELECT ns, parent FROM kept
             WHERE format < 4
               AND EXISTS (SELECT FROM checkpoint_writes w
                            WHERE w.thread_id = p_thread AND w.checkpoint_ns = kept.ns
                              AND w.checkpoint_id = kept.parent AND w.channel = '__pregel_tasks')) k;
    IF keep_id IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM checkpoint_writes w
     WHERE w.thread_id = p_thread
       AND (w.checkpoint_ns, w.checkpoint_id) IN (SELECT c.checkpoint_ns, c.checkpoint_id
                                                    FROM checkpoints c WHERE c.thread_id = p_thread
                                                  EXCEPT SELECT * FROM unnest(keep_ns, keep_id));
    DELETE FROM checkpoints c
     WHERE c.thread_id = p_thread
       AND (c.checkpoint_ns, c.checkpoint_id) NOT IN (SELECT * FROM unnest(keep_ns, keep_id));
    UPDATE checkpoints c SET parent_checkpoint_id = NULL
     WHERE c.thread_id = p_thread AND c.parent_checkpoint_id IS NOT NULL
       AND (c.checkpoint_ns, c.parent_checkpoint_id) NOT IN (SELECT * FROM unnest(keep_ns, keep_id));
    DELETE FROM checkpoint_blobs b
     WHERE b.thread_id = p_thread
       AND (b.checkpoint_ns, b.channel, b.version) NOT IN (
           SELECT c.checkpoint_ns, v.key, v.value
             FROM checkpoints c, jsonb_each_text(c.checkpoint -> 'channel_versions') v
            WHERE c.thread_id = p_thread);
END;
$$;
