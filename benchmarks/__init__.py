"""`make bench`: the server against its budgets, as ratios to the in-process floor measured in the same run."""
