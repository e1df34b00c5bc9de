"""The migrations: up, down, beside others, over what was there before, and with guests."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.postgres.base import MIGRATIONS
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from heddle_cli.postgres import Running
from heddle_cli.postgres.binaries import Binaries
from heddle_core.domain.errors import HeddleError, Unavailable
from heddle_core.domain.run import CancelAction, Outcome
from heddle_server.dsn import Dsn
from heddle_server.storage import functions, migrate
from heddle_server.storage.tables import metadata
from tests.support.postgres_server import execute, fresh_database, shared_server, template
from tests.support.queue_world import new_run, queue_world
from tests.support.require import require

OLD_BINARIES = Path("/usr/lib/postgresql/15/bin")
UPGRADE = (
    "import asyncio, sys; from heddle_server.dsn import Dsn; from heddle_server.storage import migrate\n"
    "asyncio.run(migrate.upgrade(Dsn.parse(sys.argv[1])))"
)
CHECKPOINT_TABLES = {"checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_migrations"}


async def ask(address: Dsn, question: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(**address.asyncpg_kwargs())
    try:
        return [row[0] for row in await connection.fetch(question, *arguments)]
    finally:
        await connection.close()


async def tables(address: Dsn) -> set[str]:
    return set(
        await ask(
            address,
            "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname IN ('heddle', 'public')",
        )
    )


async def stock(address: Dsn, *, up_to: int | None = None) -> None:
    """What the stock saver's set-up leaves, whole or as an older release left it."""
    if up_to is None:
        async with AsyncPostgresSaver.from_conn_string(address.libpq_url()) as saver:
            await saver.setup()
        return
    for version, script in enumerate(MIGRATIONS[: up_to + 1]):
        await execute(address, script)
        await execute(address, f"INSERT INTO checkpoint_migrations VALUES ({version})")


def write_guest(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    before = None
    for name in names:
        table = f"guest_{name}"
        (folder / f"{name}.py").write_text(
            f'"""Makes {table}"""\n'
            "from alembic import op\n"
            f"revision = {name!r}\ndown_revision = {before!r}\n"
            f"branch_labels = {None if before else (name.rpartition('_')[0],)!r}\n"
            f"def upgrade():\n    op.execute('CREATE TABLE public.{table} (id text)')\n"
            f"def downgrade():\n    op.execute('DROP TABLE public.{table}')\n"
        )
        before = name
    return folder


async def test_the_migrations_make_what_the_models_say(database: Dsn) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, parents: kind != "schema" or name == "heddle",
                "version_table_schema": "heddle",
            },
        )
        return list(compare_metadata(context, metadata))

    engine = create_async_engine(database.sqlalchemy_url())
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
    checks = await ask(
        database,
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'heddle'::regnamespace",
    )
    named = {c.name for table in metadata.tables.values() for c in table.constraints if "check" in str(c.name)}
    partial = await ask(
        database,
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indpred IS NOT NULL AND c.relnamespace = 'heddle'::regnamespace",
    )
    assert len(checks) == len(named) == 5
    wanted = {
        i.name
        for t in metadata.tables.values()
        for i in t.indexes
        if i.dialect_options["postgresql"]["where"] is not None
    }
    assert set(partial) == wanted


async def test_every_function_is_installed(database: Dsn) -> None:
    found = await ask(database, "SELECT proname FROM pg_proc WHERE pronamespace = 'heddle'::regnamespace")
    assert sorted(found) == sorted(functions.sources())


async def test_up_is_repeatable_and_down_leaves_an_empty_database(empty_database: Dsn) -> None:
    for _ in range(2):
        await migrate.upgrade(empty_database)
        assert await migrate.current(empty_database) == ("heddle_0002",)
        await migrate.check(empty_database)
    assert {name.removeprefix("public.") for name in await tables(empty_database)} >= CHECKPOINT_TABLES
    await migrate.downgrade(empty_database, "base")
    assert await tables(empty_database) == set()
    assert await ask(empty_database, "SELECT nspname FROM pg_namespace WHERE nspname = 'heddle'") == []
    assert await migrate.current(empty_database) == ()
    await migrate.downgrade(empty_database, "base")
    await migrate.upgrade(empty_database)


async def test_a_schema_that_was_there_before_stays(empty_database: Dsn) -> None:
    await execute(empty_database, "CREATE SCHEMA heddle")
    await migrate.upgrade(empty_database)
    await migrate.downgrade(empty_database, "base")
    assert await ask(empty_database, "SELECT nspname FROM pg_namespace WHERE nspname = 'heddle'") == ["heddle"]


async def test_down_and_up_again_work_with_data_inside(database: Dsn) -> None:
    async with queue_world(database) as world:
        claim = await world.opened()
        await world.checkpoint(claim.thread_id, "c", claim.run_id)
        await migrate.downgrade(world.address, "heddle_0001")
        await migrate.upgrade(world.address)
        assert await world.run_row(claim.run_id) is not None
        await migrate.downgrade(world.address, "base")
        await migrate.upgrade(world.address)
        assert await world.one("SELECT count(*) FROM heddle.run") == 0


@pytest.mark.parametrize("up_to", [None, 3, 5, 9], ids=["newest", "before blobs may be empty", "before indexes", "all"])
async def test_stock_checkpoint_tables_are_adopted_with_their_data_and_left_behind(
    empty_database: Dsn, up_to: int | None
) -> None:
    await stock(empty_database, up_to=up_to)
    await execute(
        empty_database,
        "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES ('t', 'c', '{\"v\": 4}');"
        "INSERT INTO checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, blob)"
        " VALUES ('t', 'c', 'k', 0, 'ch', '')",
    )
    await migrate.upgrade(empty_database)
    assert sorted(await ask(empty_database, "SELECT v FROM checkpoint_migrations")) == list(range(len(MIGRATIONS)))
    indexes = await ask(
        empty_database, "SELECT indexname FROM pg_indexes WHERE indexname LIKE 'checkpoint%thread_id_idx'"
    )
    assert len(indexes) == 3
    await execute(
        empty_database,
        "INSERT INTO checkpoint_blobs (thread_id, channel, version, type) VALUES ('t', 'ch', '1', 'empty')",
    )
    assert await ask(empty_database, "SELECT task_path FROM checkpoint_writes") == [""]
    await stock(empty_database)  # finds nothing to do

    await migrate.downgrade(empty_database, "base")
    assert await tables(empty_database) == {f"public.{name}" for name in CHECKPOINT_TABLES}
    assert await ask(empty_database, "SELECT thread_id FROM checkpoints") == ["t"]


async def test_the_tables_made_here_have_the_stock_layout(database: Dsn, empty_database: Dsn) -> None:
    layout = (
        "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '"
        " || coalesce(column_default, '') FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1"
    )
    constraints = (
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1"
    )
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    await stock(empty_database)
    for question in (layout, constraints, indexes):
        assert await ask(database, question) == await ask(empty_database, question)


async def test_an_index_left_invalid_is_built_again(empty_database: Dsn) -> None:
    await stock(empty_database)
    await execute(
        empty_database,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'checkpoints_thread_id_idx'::regclass",
    )
    await migrate.upgrade(empty_database)
    assert await ask(
        empty_database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'checkpoints_thread_id_idx'::regclass"
    ) == [True]


async def test_several_processes_may_migrate_at_once(empty_database: Dsn) -> None:
    await stock(empty_database, up_to=5)  # so that indexes are built concurrently, which waits for other transactions
    command = [sys.executable, "-c", UPGRADE, empty_database.libpq_url()]
    running = [await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE) for _ in range(4)]
    async with asyncio.timeout(60):
        for process in running:
            _, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()
    assert await migrate.current(empty_database) == ("heddle_0002",)


async def test_a_database_that_is_up_to_date_costs_no_alembic(database: Dsn) -> None:
    script = f"{UPGRADE}\nassert not [name for name in sys.modules if name.partition('.')[0] == 'alembic']"
    command = [sys.executable, "-c", script, database.libpq_url()]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def test_a_newer_database_is_refused_by_name_and_left_alone(empty_database: Dsn) -> None:
    await migrate.upgrade(empty_database)
    await execute(empty_database, "UPDATE heddle.alembic_version SET version_num = 'heddle_9000'")
    for attempt in (
        migrate.upgrade(empty_database),
        migrate.check(empty_database),
        migrate.downgrade(empty_database, "base"),
    ):
        with pytest.raises(migrate.DatabaseTooNew, match=r"heddle_9000.*heddle_0002"):
            await attempt
    assert await migrate.current(empty_database) == ("heddle_9000",)


async def test_a_database_behind_is_said_to_be_so(empty_database: Dsn) -> None:
    with pytest.raises(migrate.MigrationsPending, match="at no revision"):
        await migrate.check(empty_database)
    await migrate.upgrade(empty_database, revision="heddle_0001")
    with pytest.raises(Unavailable, match=r"at heddle_0001.*needs heddle_0002"):
        await migrate.check(empty_database)


async def test_guests_are_branches_of_their_own(empty_database: Dsn, tmp_path: Path) -> None:
    folder = write_guest(tmp_path / "a guest: 100%", "shop_0001", "shop_0002")
    await migrate.upgrade(empty_database)
    await migrate.upgrade(empty_database, [folder])
    assert await migrate.current(empty_database, [folder]) == ("heddle_0002", "shop_0002")
    assert {"public.guest_shop_0001", "public.guest_shop_0002"} <= await tables(empty_database)
    assert [v.revision for v in migrate.history([folder])] == ["heddle_0001", "heddle_0002", "shop_0001", "shop_0002"]

    await migrate.downgrade(empty_database, "shop@base", [folder])
    assert await migrate.current(empty_database, [folder]) == ("heddle_0002",)


async def test_a_guest_that_is_not_loaded_any_more_is_no_obstacle(empty_database: Dsn, tmp_path: Path) -> None:
    shop, club = write_guest(tmp_path / "shop", "shop_0001"), write_guest(tmp_path / "club", "club_0001")
    await migrate.upgrade(empty_database, [shop], revision="shop_0001")
    await migrate.upgrade(empty_database, [club])
    await migrate.check(empty_database)
    assert await migrate.current(empty_database) == ("club_0001", "heddle_0002", "shop_0001")
    with pytest.raises(migrate.UnknownRevision, match="shop_0001"):
        await migrate.downgrade(empty_database, "base", [club])
    await migrate.downgrade(empty_database, "base", [club, shop])
    assert await tables(empty_database) == set()


async def test_a_guest_newer_than_its_files_is_refused(empty_database: Dsn, tmp_path: Path) -> None:
    await migrate.upgrade(empty_database, [write_guest(tmp_path / "new", "shop_0001", "shop_0002")])
    with pytest.raises(migrate.DatabaseTooNew, match=r"shop_0002.*shop_0001"):
        await migrate.upgrade(empty_database, [write_guest(tmp_path / "old", "shop_0001")])


async def test_an_unknown_target_is_said_to_be_unknown(empty_database: Dsn) -> None:
    with pytest.raises(HeddleError, match="heddle migrate history"):
        await migrate.upgrade(empty_database, revision="heddle_0404")


async def test_a_server_that_is_not_there_is_unavailable(empty_database: Dsn, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="start PostgreSQL"):
        await migrate.upgrade(replace(empty_database, host=str(tmp_path)))


def test_history_is_read_without_running_the_files() -> None:
    known = migrate.history()
    assert [version.down for version in known] == [(), ("heddle_0001",)]
    assert all(re.fullmatch(r"heddle_\d{4}", version.revision) for version in known)
    assert migrate.expected_heads() == {"heddle_0002"}


@pytest.fixture(scope="module")
def postgres15() -> Iterator[Running]:
    require("postgres15", (OLD_BINARIES / "postgres").exists(), "apt-get install postgresql-15")
    with shared_server("pg15", Binaries(folder=OLD_BINARIES, version=15, from_wheel=False)) as running:
        yield running


@pytest.mark.postgres15
async def test_postgres_15_runs_the_same_migrations_and_functions(postgres15: Running) -> None:
    migrated = template(postgres15, "template_migrated", migrate.upgrade)
    with fresh_database(postgres15, migrated) as database:
        async with queue_world(database) as world:
            assert str(await world.one("SHOW server_version")).startswith("15.")
            one, two, three = [await world.opened() for _ in range(3)]
            await world.enqueued(new_run(one.thread_id))
            assert (await world.queue.finish(one, Outcome.success(), None)).successor_due
            assert (await world.queue.finish(two, Outcome.cancelled(CancelAction.ROLLBACK), None)).held
            assert len(await world.claimed()) == 1
            await world.let_the_lease_lapse(three)
            assert await world.queue.reap(max_attempts=1) == [three.run_id]
            await migrate.downgrade(world.address, "base")
            await migrate.upgrade(world.address)


def test_changed_database_functions_come_with_a_migration() -> None:
    sources = files("heddle_server.storage").joinpath("functions")
    digest = hashlib.sha256()
    for name in sorted(entry.name for entry in sources.iterdir() if entry.name.endswith(".sql")):
        digest.update(sources.joinpath(name).read_bytes())
    stated = [
        found.group(1)
        for version in sorted((Path(__file__).parents[3] / "alembic" / "versions").glob("heddle_*.py"))
        if (found := re.search(r'^FUNCTIONS = "(\w+)"', version.read_text(), re.MULTILINE))
    ]
    assert stated[-1] == digest.hexdigest(), (
        "the functions changed: add a revision that calls functions.install and states FUNCTIONS "
        f"= {digest.hexdigest()!r} (before the first release: correct it in heddle_0001)"
    )
