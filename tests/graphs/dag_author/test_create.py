"""`/agent create` and its sisters, from a message to a commit."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from uuid import UUID

import pytest

from graphs.dag_author import roundtrip
from tests.graphs.dag_author.conftest import World, answer

DEMO = (
    "/agent create daily pipeline that extracts orders from postgres, aggregates revenue per country "
    "and emails a report at 6am"
)
OTHER = UUID("00000000-0000-0000-0000-0000000000aa")


async def test_the_demo_sentence_becomes_three_tasks_in_a_line(world: World) -> None:
    values = await world.say(DEMO)

    source = world.git("show", f"main:{values['file_path']}")
    dag = roundtrip.read(source)
    assert [task.kind for task in dag.tasks] == ["sql", "sql", "python"]
    first, second, third = (task.task_id for task in dag.tasks)
    assert dag.edges == {(first, second), (second, third)}
    assert dag.arguments["schedule"] == "0 6 * * *"
    assert dag.tasks[0].arguments["conn_id"] == "postgres"
    assert "INSERT INTO staging_orders SELECT * FROM orders" in dag.tasks[0].arguments["sql"][-1]
    assert (
        "SELECT country, SUM(revenue) AS revenue FROM staging_orders GROUP BY country"
        in (dag.tasks[1].arguments["sql"][-1])
    )
    assert "fill in: " in source


async def test_the_answer_names_file_commit_schedule_runs_graph_and_open_items(world: World) -> None:
    values = await world.say(DEMO)

    text = answer(values)
    assert values["file_path"] in text
    assert values["commit_id"] == world.git("rev-parse", "main")
    assert values["commit_id"] in text
    assert "every day at 06:00 (UTC)" in text
    assert len(values["next_runs"]) == 3
    assert all(run in text and "T06:00:00" in run for run in values["next_runs"])
    assert "```mermaid" in text
    assert "To fill in" in text
    assert values["fill_in"]
    assert "built-in rules" in text


async def test_progress_is_streamed_step_by_step(world: World) -> None:
    await world.say(DEMO)

    assert [event["step"] for event in world.events] == [
        "planning",
        "validating",
        "rendering",
        "checking",
        "committing",
        "done",
    ]
    assert {event["name"] for event in world.events} == {"progress"}


async def test_a_create_leaves_one_row_one_commit_and_one_file(world: World) -> None:
    values = await world.say(DEMO)

    (row,) = world.rows("user_dags")
    assert (row["dag_id"], row["file_path"]) == (values["dag_id"], values["file_path"])
    assert (row["schedule_interval"], row["task_count"]) == ("0 6 * * *", 3)
    assert world.files() == [values["file_path"]]
    assert [row["commit_id"] for row in world.rows("project_commits")][-1] == values["commit_id"]
    assert f"Dag-Id: {values['dag_id']}" in world.git("log", "-1", "--format=%B", "main")


async def test_list_and_show_tell_what_is_there(world: World) -> None:
    made = await world.say(DEMO)

    assert made["dag_id"] in answer(await world.say("/agent list"))
    shown = answer(await world.say(f"/agent show {made['dag_id']}"))
    assert "with DAG(" in shown
    assert "every day at 06:00" in shown
    assert "t_extract_orders --> " in shown


async def test_an_unknown_dag_is_answered_with_the_nearest(world: World) -> None:
    made = await world.say(DEMO)

    values = await world.say(f"/agent show {made['dag_id']}x")
    assert values["problems"][0]["code"] == "dag_not_found"
    assert f"did you mean {made['dag_id']}?" in answer(values)


async def _git(*command: str) -> None:
    settings = ["-c", "safe.directory=*", "-c", "user.name=x", "-c", "user.email=x@x"]
    await asyncio.to_thread(subprocess.run, ["git", *settings, *command], check=True, capture_output=True)


async def test_show_says_that_a_file_was_deleted_or_edited(world: World) -> None:
    made = await world.say(DEMO)
    clone = world.data / "clone"
    await _git("clone", str(world.repository()), str(clone))
    file = clone / made["file_path"]
    file.write_text(file.read_text() + "\n# by hand\n")
    await _git("-C", str(clone), "commit", "-am", "edit")
    await _git("-C", str(clone), "push", "origin", "main")

    assert "Somebody changed the file" in answer(await world.say(f"/agent show {made['dag_id']}"))

    await _git("-C", str(clone), "rm", made["file_path"])
    await _git("-C", str(clone), "commit", "-m", "gone")
    await _git("-C", str(clone), "push", "origin", "main")
    assert "somebody deleted it" in answer(await world.say(f"/agent show {made['dag_id']}"))


async def test_a_spec_is_taken_as_it_is(world: World) -> None:
    values = await world.give(
        {
            "dag_name": "My Custom ETL Pipeline",
            "schedule_interval": "@daily",
            "tags": ["etl", "daily"],
            "retries": 2,
            "tasks": [
                {
                    "task_id": "extract_data",
                    "task_type": "python",
                    "python_code": "print('x')\nreturn {'a': 1}",
                },
                {
                    "task_id": "transform_data",
                    "task_type": "python",
                    "python_code": "def transform_data(**context):\n    ti = context['ti']\n    return ti",
                    "provide_context": True,
                    "dependencies": ["extract_data"],
                },
                {
                    "task_id": "load_to_db",
                    "task_type": "bash",
                    "bash_command": "echo 'Loading' && python /scripts/load_data.py",
                    "dependencies": ["transform_data"],
                },
            ],
        }
    )
    assert values["dag_id"] == "my_custom_etl_pipeline"
    assert values["planner"] == "given"
    source = world.git("show", f"main:{values['file_path']}")
    assert "return transform_data(**context)" in source


async def test_a_spec_is_used_once_and_not_again_by_the_next_message(world: World) -> None:
    spec = {"dag_name": "once", "tasks": [{"task_id": "a", "task_type": "empty"}]}
    await world.run({"spec": spec}, thread="one")
    values = await world.say("/agent help", thread="one")

    assert "/agent create" in answer(values)
    assert values["dag_id"] is None
    assert len(world.rows("user_dags")) == 1


async def test_content_blocks_are_read_like_text(world: World) -> None:
    values = await world.say([{"type": "text", "text": "/agent create run a.sh"}, {"type": "image", "data": "x"}])
    assert values["commit_id"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello", "Start a message with `/agent`"),
        ("/agent", "/agent create <"),
        ("/agent help", "/agent create <"),
        ("/agent crate x", "Did you mean `/agent create`?"),
        ("/agent create", "say what the DAG should do"),
        ("/agent list", "no DAGs yet"),
        ("/agent create please", "graph_empty"),
    ],
)
async def test_other_messages_get_a_short_helpful_answer(world: World, text: str, expected: str) -> None:
    assert expected in answer(await world.say(text))


async def test_projects_do_not_see_each_other(world: World) -> None:
    made = await world.say(DEMO)

    assert "no DAGs yet" in answer(await world.say("/agent list", project=OTHER))
    assert "dag_not_found" in answer(await world.say(f"/agent show {made['dag_id']}", project=OTHER))
    again = await world.say(DEMO, project=OTHER)
    assert again["dag_id"] == made["dag_id"]
    assert world.files(OTHER) == world.files()


async def test_a_project_that_is_no_uuid_is_refused(world: World) -> None:
    values = await world.say(DEMO, project="../../etc")
    assert values["problems"][0]["code"] == "project_invalid"
    assert not (world.data / "projects").exists()


async def test_the_same_name_again_gets_a_number(world: World) -> None:
    ids = [(await world.say("/agent create run a.sh"))["dag_id"] for _ in range(3)]
    assert ids == ["a", "a_2", "a_3"]


async def test_an_id_asked_for_by_name_is_a_conflict_when_taken(world: World) -> None:
    spec = {"dag_name": "x", "dag_id": "mine", "tasks": [{"task_id": "a", "task_type": "empty"}]}
    await world.give(spec)
    before = world.snapshot()
    values = await world.give(spec)
    assert values["problems"][0]["code"] == "name_conflict"
    assert world.snapshot() == before


async def test_fifty_equal_creates_at_once_make_fifty_dags(world: World) -> None:
    made = await asyncio.gather(*(world.say("/agent create run a.sh", thread=str(n)) for n in range(50)))

    assert len({values["dag_id"] for values in made}) == 50
    assert len(world.rows("user_dags")) == 50
    assert len(world.files()) == 50
    assert not any(values["problems"] for values in made)


async def test_the_same_request_executed_twice_makes_one_dag(world: World) -> None:
    run_id = str(uuid.uuid4())
    first = await world.say(DEMO, thread="a", run_id=run_id)
    second = await world.say(DEMO, thread="b", run_id=run_id)

    assert (second["dag_id"], second["commit_id"]) == (first["dag_id"], first["commit_id"])
    assert second["messages"][-1].id == first["messages"][-1].id
    assert len(world.rows("user_dags")) == 1
    assert f"Run-Id: {run_id}" in world.git("log", "-1", "--format=%B", "main")
