"""Apply a guest's migrations the way the server does: alembic, on a connection handed to it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

ROOT = Path(__file__).resolve().parents[2]


def migrate(url: str, folder: Path, target: str = "head") -> None:
    """Bring the database to a revision of the branch in this folder (`base` takes it away)."""
    scripts = ScriptDirectory(str(folder.parent), version_locations=[str(folder)])
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:

        def steps(revision: object, context: MigrationContext) -> object:
            if target == "base":
                return scripts._downgrade_revs("base", revision)  # type: ignore[arg-type]
            return scripts._upgrade_revs(target, revision)  # type: ignore[arg-type]

        context = MigrationContext.configure(connection, opts={"fn": steps})
        with Operations.context(context):
            context.run_migrations()
    engine.dispose()


DAG_AUTHOR = ROOT / "graphs" / "dag_author" / "migrations"
