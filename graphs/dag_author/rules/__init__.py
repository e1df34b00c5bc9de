"""The rule planner, as a pipeline of pure stages.

text -> tokens -> what the schedule, zone and modifiers say (taken out) -> clauses -> steps -> tasks and edges
"""
