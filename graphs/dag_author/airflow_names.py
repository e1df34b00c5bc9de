"""Names that exist while an Airflow task runs: in the context of Python tasks and in templates."""

from __future__ import annotations

_IN_BOTH = """
conn conf dag dag_run data_interval_end data_interval_start ds ds_nodash expanded_ti_count inlet_events inlets
logical_date macros map_index_template outlet_events outlets params prev_data_interval_end_success
prev_data_interval_start_success prev_end_date_success prev_start_date_success reason run_id start_date task
task_instance task_instance_key_str templates_dict test_mode ti triggering_asset_events
triggering_dataset_events ts ts_nodash ts_nodash_with_tz try_number var
"""
_GONE = """
execution_date next_ds next_ds_nodash next_execution_date prev_ds prev_ds_nodash prev_execution_date
prev_execution_date_success tomorrow_ds tomorrow_ds_nodash yesterday_ds yesterday_ds_nodash
"""

# Code and templates may rely on these in either major.
CONTEXT = frozenset(_IN_BOTH.split())

# Gone in Airflow 3, where reading them is a KeyError.
REMOVED = frozenset(_GONE.split())

# Context names that are too common as plain variables to be set for code that only reads them.
AMBIGUOUS = frozenset({"conf", "conn", "reason"})
