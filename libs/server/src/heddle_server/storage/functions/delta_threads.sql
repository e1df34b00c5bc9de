-- Which of these threads have a delta channel: counters in the metadata, or a snapshot (an inline `true` with a blob
-- behind it). Their state is spread over their history.
CREATE OR REPLACE FUNCTION heddle.delta_threads(p_threads text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(DISTINCT c.thread_id ORDER BY c.thread_id)
      FROM checkpoints c
     WHERE c.thread_id = ANY (p_threads)
       AND (c.metadata ?| ARRAY['counters_since_delta_snapshot', 'delta_writes_versioned']
            OR EXISTS (SELECT FROM jsonb_each(c.checkpoint -> 'channel_values') v
                         JOIN checkpoint_blobs b
                           ON b.thread_id = c.thread_id AND b.checkpoint_ns = c.checkpoint_ns AND b.channel = v.key
                          AND b.version = c.checkpoint -> 'channel_versions' ->> v.key
                        WHERE v.value = 'true'::jsonb));
$$;
