"""The rule planner, judged by requests as people write them: schedule, zone, tasks and edges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from graphs.dag_author import checks, planner_rules, reading, render, roundtrip
from graphs.dag_author.plan import Plan
from graphs.dag_author.problems import Code, Refused

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    says: str
    when: str | None
    tasks: str  # "kind id" in order, joined by commas
    edges: str = ""  # "a>b", joined by spaces; a line through all tasks when empty
    zone: str = "UTC"
    opened: str = ""  # tasks that must be filled in


CASES = [
    Case(
        says="daily pipeline that extracts orders from postgres, aggregates revenue per country and emails a report "
        "at 6am",
        when="0 6 * * *",
        tasks="sql extract_orders, sql aggregate_revenue_per_country, python email_report",
        opened="email_report",
    ),
    Case(
        says="hourly: pull new events from mysql, count events per user and write them to the warehouse",
        when="@hourly",
        tasks="sql pull_events, sql count_events_per_user, python write_events_per_user",
    ),
    Case(
        says="every 15 minutes fetch https://example.com/rates.csv and load it into postgres",
        when="*/15 * * * *",
        tasks="bash fetch_rates, python load_rates",
    ),
    Case(
        says="weekdays at 7:30 in Paris time run scripts/report.py then email the report to sales@example.com",
        when="30 7 * * 1-5",
        zone="Europe/Paris",
        tasks="bash run_report, python email_report",
        opened="email_report",
    ),
    Case(
        says="every monday at 9am Europe/Berlin, extract invoices from the billing database, sum amount by customer, "
        "notify slack",
        when="0 9 * * 1",
        zone="Europe/Berlin",
        tasks="sql extract_invoices, sql sum_amount_per_customer, python notify_slack",
        opened="notify_slack",
    ),
    Case(
        says="first of the month at 3am: archive /data/logs, then delete /data/tmp",
        when="0 3 1 * *",
        tasks="bash archive_logs, bash delete_tmp",
    ),
    Case(
        says="extract orders from postgres and customers from mysql in parallel, then join them, then write to "
        "snowflake",
        when=None,
        tasks="sql extract_orders, sql extract_customers, python join_orders, python write_snowflake",
        edges="extract_orders>join_orders extract_customers>join_orders join_orders>write_snowflake",
        opened="join_orders write_snowflake",
    ),
    Case(
        says="pull users and orders from postgres in parallel, then join users with orders on user_id, then email it",
        when=None,
        tasks="sql pull_users, sql pull_orders, sql join_users_orders, python email_users_orders",
        edges="pull_users>join_users_orders pull_orders>join_users_orders join_users_orders>email_users_orders",
        opened="email_users_orders",
    ),
    Case(says="twice a day copy users from mysql to postgres", when="0 0,12 * * *", tasks="python copy_users"),
    Case(
        says="wait for /data/in/orders.csv, load it into postgres, then trigger the reporting dag",
        when=None,
        tasks="wait_file wait_for_orders, python load_orders, trigger_dag trigger_reporting",
    ),
    Case(
        says="cron 30 4 * * 1-5: run `dbt build` and then slack the data team",
        when="30 4 * * 1-5",
        tasks="bash run_dbt_build, python slack_data_team",
        opened="slack_data_team",
    ),
    Case(
        says="I need a pipeline which ingests clickstream from kafka every 10 minutes, cleans it, and stores it in "
        "bigquery",
        when="*/10 * * * *",
        tasks="python ingest_clickstream, python clean_clickstream, python store_clickstream",
        opened="ingest_clickstream clean_clickstream store_clickstream",
    ),
    Case(
        says='Create a weekly job called "Churn model" that trains the churn model and deploys it, retry 3 times',
        when="@weekly",
        tasks="python train_churn_model, python deploy_churn_model",
        opened="train_churn_model deploy_churn_model",
    ),
    Case(says="compress /var/log/app.log every night at 1am UTC", when="0 1 * * *", tasks="bash compress_app"),
    Case(
        says="run a.sh and b.sh in parallel, after both finish run c.sh",
        when=None,
        tasks="bash run_a, bash run_b, bash run_c",
        edges="run_a>run_c run_b>run_c",
    ),
    Case(
        says="every quarter download s3://bucket/exports/data.csv and load it into redshift",
        when="@quarterly",
        tasks="bash download_data, python load_data",
    ),
    Case(
        says="extract orders from postgres. Deduplicate by order_id. Aggregate revenue by country and month. Email "
        "the finance team.",
        when=None,
        tasks="sql extract_orders, sql deduplicate_orders, sql aggregate_revenue_per_country_month, "
        "python email_finance_team",
        opened="email_finance_team",
    ),
    Case(
        says="every 90 minutes check the health endpoint",
        when="every 90 minutes",
        tasks="python check_health_endpoint",
        opened="check_health_endpoint",
    ),
    Case(
        says="make a dag that, each day at noon, reads sales from sqlite, calculates total amount per store and posts "
        "the results to slack",
        when="0 12 * * *",
        tasks="sql read_sales, sql calculate_amount_per_store, python post_results_to_slack",
        opened="post_results_to_slack",
    ),
    Case(
        says="load orders and customers from postgres into snowflake nightly",
        when="@daily",
        tasks="python load_orders, python load_customers",
        edges="none",
    ),
    Case(
        says="first extract users from postgres, next enrich them with salesforce data, finally export them to s3",
        when=None,
        tasks="sql extract_users, python enrich_users, python export_s3",
        opened="enrich_users export_s3",
    ),
    Case(
        says="Send a report by email every friday at 5pm after counting sales per region in the warehouse",
        when="0 17 * * 5",
        tasks="sql count_sales_per_region, python send_report",
        opened="send_report",
    ),
    Case(says="sync /data/in to s3://bucket/in every 6 hours", when="0 */6 * * *", tasks="bash sync_in"),
    Case(
        says="top 10 products by revenue from the orders table in postgres every sunday",
        when="0 0 * * 0",
        tasks="sql rank_top_10_products",
    ),
    Case(
        says="extract orders from postgres -> aggregate revenue per day -> email the summary",
        when=None,
        tasks="sql extract_orders, sql aggregate_revenue_per_day, python email_summary",
        opened="email_summary",
    ),
    Case(
        says="run spark-submit jobs/etl.py daily at 2",
        when="0 2 * * *",
        tasks="bash run_spark_submit_jobs_etl_py",
    ),
    Case(
        says="Pull leads from hubspot, then in parallel score them and back up the raw data, then email the sales team",
        when=None,
        tasks="python pull_leads, python score_leads, python backup_leads, python email_sales_team",
        edges="pull_leads>score_leads pull_leads>backup_leads score_leads>email_sales_team "
        "backup_leads>email_sales_team",
        opened="pull_leads score_leads backup_leads email_sales_team",
    ),
    Case(
        says="every hour between 8am and 6pm on weekdays run scripts/poll.sh",
        when="0 8-18 * * 1-5",
        tasks="bash run_poll",
    ),
    Case(
        says="at 18:00 New York time every weekday run load.sh, and alert #ops on slack if anything fails",
        when="0 18 * * 1-5",
        zone="America/New_York",
        tasks="bash run_load, python alert_ops_to_slack",
        opened="alert_ops_to_slack",
    ),
    Case(
        says="vacuum the database manually",
        when=None,
        tasks="python vacuum_database",
        opened="vacuum_database",
    ),
    Case(
        says="every other day at 6am wait 30 minutes and run x.sh",
        when="every 2880 minutes",
        tasks="wait_time wait_30_minutes, bash run_x",
    ),
    Case(
        says="each Tuesday and Thursday at 8 pm pacific time delete /tmp/cache/*.tmp",
        when="0 20 * * 2,4",
        zone="America/Los_Angeles",
        tasks="bash delete_cache",
    ),
]


def _plan(says: str) -> Plan:
    fields, _ = planner_rules.plan(says)
    plan = checks.check(reading.read(fields).spec, now=NOW)
    roundtrip.verify(render.render(plan), plan)
    return plan


@pytest.mark.parametrize("case", CASES, ids=[case.says[:40] for case in CASES])
def test_a_request_becomes_the_expected_dag(case: Case) -> None:
    plan = _plan(case.says)

    assert plan.schedule.stored == case.when
    assert plan.zone == case.zone
    assert ", ".join(f"{task.kind} {task.task_id}" for task in plan.tasks) == case.tasks
    ids = [task.task_id for task in plan.tasks]
    line = {f"{a}>{b}" for a, b in pairwise(ids)}
    wanted = set() if case.edges == "none" else set(case.edges.split()) or line
    assert {f"{up}>{task.task_id}" for task in plan.tasks for up in task.upstream} == wanted
    assert " ".join(dict(plan.fill_in)) == case.opened


@pytest.mark.parametrize(
    ("says", "when", "zone"),
    [
        ("every monday at 9:30 in Berlin run a.sh", "30 9 * * 1", "Europe/Berlin"),
        ("every monday at 9:30 in Berlin, run a.sh", "30 9 * * 1", "Europe/Berlin"),
        ("at 6am New York run a.sh", "0 6 * * *", "America/New_York"),
        ("run a.sh every day at 6am in new york", "0 6 * * *", "America/New_York"),
        ("run a.sh at 9:30 Tokyo time", "30 9 * * *", "Asia/Tokyo"),
        ("run a.sh at 18:00 in São Paulo", "0 18 * * *", "America/Sao_Paulo"),
        ("run a.sh at noon in Munich every weekday", "0 12 * * 1-5", "Europe/Berlin"),
        ("every day at 9:30 in Berlin and 10:30 in Berlin run a.sh", "30 9,10 * * *", "Europe/Berlin"),
        ("daily at 6am extract orders in Berlin from postgres", "0 6 * * *", "UTC"),
        ("count orders in Berlin daily at 6am", "0 6 * * *", "UTC"),
        ("at 6am Paris orders are copied", "0 6 * * *", "UTC"),
        ("at 6am in center run a.sh", "0 6 * * *", "UTC"),
    ],
)
def test_a_city_right_after_a_clock_time_is_the_time_zone(says: str, when: str, zone: str) -> None:
    plan = _plan(says)
    assert (plan.schedule.stored, plan.zone) == (when, zone)


@pytest.mark.parametrize(
    ("says", "got"),
    [
        ("daily at 25:00 run a.sh", "25:00"),
        ("daily at 24:00 run a.sh", "24:00"),
        ("daily 25:00 run a.sh", "25:00"),
        ("daily at 6:60 run a.sh", "6:60"),
        ("at 13pm run a.sh", "13pm"),
        ("at 13 pm run a.sh", "13 pm"),
        ("at 0am run a.sh", "0am"),
        ("at 18h75 run a.sh", "18h75"),
        ("daily at 25 run a.sh", "25"),
        ("run a.sh at 100:00", "100"),
        ("every day at 6am and 25:00 run a.sh", "25:00"),
        ("every hour between 8am and 25:00 run a.sh", "25:00"),
    ],
)
def test_an_impossible_time_is_refused_and_not_guessed(says: str, got: str) -> None:
    with pytest.raises(Refused) as refusal:
        _plan(says)
    problem = refusal.value.problems[0]
    assert (problem.code, problem.got) == (Code.SCHEDULE_INVALID, got)
    assert "00:00 to 23:59" in problem.allowed


@pytest.mark.parametrize("says", ["wait 36h then run a.sh", "split orders 80:20", "alert slack when the disk is at 90"])
def test_numbers_that_are_no_times_are_left_alone(says: str) -> None:
    assert _plan(says).schedule.stored is None


def test_a_notice_of_failure_runs_only_when_something_failed() -> None:
    plan = _plan("run a.sh and then b.sh, and if anything fails alert the team on slack")
    assert dict(plan.tasks[-1].arguments)["trigger_rule"] == "one_failed"
    assert plan.tasks[-1].upstream == ("run_b",)


def test_a_sum_of_an_unnamed_column_is_left_open_and_not_counted() -> None:
    plan = _plan("sum sales per region from the sales table in the warehouse")
    assert plan.fill_in[0][1].endswith("(which column of sales)")


def test_the_period_of_an_extraction_follows_the_schedule_and_its_zone() -> None:
    fields, assumed = planner_rules.plan("every monday at 9am in Paris time extract orders from postgres")
    parameters = fields["tasks"][0]["parameters"]
    assert "Europe/Paris" in parameters["period_end"]
    assert "subtract(days=7)" in parameters["period_start"]
    assert any("created_at" in item for item in assumed)


def test_names_that_are_words_of_sql_are_quoted() -> None:
    fields, _ = planner_rules.plan("count order per user in postgres")
    assert 'SELECT "user", COUNT(*) AS "order" FROM "order" GROUP BY "user"' in fields["tasks"][0]["sql"][-1]


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ("daily at 6am", Code.GRAPH_EMPTY),
        ("!!! ???", Code.GRAPH_EMPTY),
        ("on the last day of the month run a.sh", Code.SCHEDULE_INVALID),
        ("every day at 6:15 and 7:30 run a.sh", Code.SCHEDULE_INVALID),
        ("at 9:30 in Berlin and 9:45 in Tokyo run a.sh", Code.SCHEDULE_INVALID),
        ("run a.sh every hour at minute 60", Code.SCHEDULE_INVALID),
        ("run a.sh at 6am in Atlantis time", Code.TIMEZONE_UNKNOWN),
        ("cron 61 * * * * run a.sh", Code.SCHEDULE_INVALID),
        ("cron 0 0 31 2 * run a.sh", Code.SCHEDULE_NEVER_FIRES),
        ("run a.sh with cron 0 0 6 * * *", Code.SCHEDULE_INVALID),
    ],
)
def test_what_cannot_be_planned_is_refused_with_its_code(says: str, code: Code) -> None:
    with pytest.raises(Refused) as refusal:
        _plan(says)
    assert refusal.value.problems[0].code is code


def test_the_same_words_give_the_same_bytes() -> None:
    assert render.render(_plan(CASES[0].says)) == render.render(_plan(CASES[0].says))
