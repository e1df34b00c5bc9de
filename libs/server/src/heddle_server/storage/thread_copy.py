"""Copying a thread: one statement, no lock on the source.

All parts of a statement see one snapshot, and whoever writes checkpoints writes their blobs and writes in the same
transaction, so the copy is of one moment although runs may go on at the source meanwhile. Nobody knows the new id yet,
so nothing waits for the target either. What a run in flight has flushed by then is in the copy; the run is not, and
the copy's row shows the source's last state at rest.
"""

from __future__ import annotations

# $1 source, $2 target, $3 and $4 the same as text. Gives 1, or 0 when there is no source.
COPY = """
WITH copied AS (
    INSERT INTO heddle.thread
           (thread_id, metadata, config, status, resting_status, has_next, "values", interrupts, error)
    SELECT $2::uuid, metadata, config, resting_status, resting_status, has_next, "values", interrupts, error
      FROM heddle.thread WHERE thread_id = $1
    RETURNING 1
), copied_checkpoints AS (
    INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
    SELECT $4::text, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,
           CASE WHEN metadata ? 'thread_id'
                THEN jsonb_set(metadata, '{thread_id}', to_jsonb($4::text)) ELSE metadata END
      FROM checkpoints WHERE thread_id = $3 AND EXISTS (SELECT FROM copied)
), copied_blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT $4::text, checkpoint_ns, channel, version, type, blob
      FROM checkpoint_blobs WHERE thread_id = $3 AND EXISTS (SELECT FROM copied)
), copied_writes AS (
    INSERT INTO checkpoint_writes
           (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path)
    SELECT $4::text, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path
      FROM checkpoint_writes WHERE thread_id = $3 AND EXISTS (SELECT FROM copied)
)
SELECT count(*) FROM copied
"""
