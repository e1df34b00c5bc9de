"""What a worker does: find claimed work, run it to exactly one outcome, keep its lease."""
