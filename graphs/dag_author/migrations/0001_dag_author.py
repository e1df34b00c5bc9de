"""Tables of the DAGs and commits of every project.

Revision ID: dag_author_0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "dag_author_0001"
down_revision: str | None = None
branch_labels = ("dag_author",)
depends_on: str | None = None

SCHEMA = "public"


def upgrade() -> None:
    op.create_table(
        "user_dags",
        sa.Column("id", postgresql.UUID(), primary_key=True),
        sa.Column("project_id", postgresql.UUID(), nullable=False),
        sa.Column("user_id", postgresql.UUID(), nullable=False),
        sa.Column("dag_id", sa.Text(), nullable=False),
        sa.Column("dag_name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("file_path", sa.Text(), nullable=False),
        sa.Column("schedule_interval", sa.Text()),
        sa.Column("owner", sa.Text()),
        sa.Column("tags", postgresql.ARRAY(sa.Text())),
        sa.Column("task_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("is_active", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("commit_id", sa.Text()),
        sa.UniqueConstraint("project_id", "dag_id", name="user_dags_project_id_dag_id_key"),
        schema=SCHEMA,
    )
    op.create_index("idx_user_dags_project", "user_dags", ["project_id"], schema=SCHEMA)
    op.create_index("idx_user_dags_user", "user_dags", ["user_id"], schema=SCHEMA)
    op.create_index("idx_user_dags_dag_id", "user_dags", ["dag_id"], schema=SCHEMA)
    op.create_index("idx_user_dags_created_at", "user_dags", [sa.text("created_at DESC")], schema=SCHEMA)
    op.create_table(
        "project_commits",
        sa.Column("id", postgresql.UUID(), primary_key=True),
        sa.Column("project_id", postgresql.UUID(), nullable=False),
        sa.Column("commit_id", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("changed_paths", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False, server_default="main"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        # Where it stands in the project's history, and the request that caused it: a request runs at least
        # once, so its second execution must find what the first one did.
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text()),
        # Two projects may hold the same commit (the first one of all is equal), so uniqueness is per project.
        sa.UniqueConstraint("project_id", "commit_id", name="project_commits_project_id_commit_id_key"),
        sa.UniqueConstraint("project_id", "position", name="project_commits_project_id_position_key"),
        sa.UniqueConstraint("project_id", "request_id", name="project_commits_project_id_request_id_key"),
        schema=SCHEMA,
    )
    op.create_index("idx_project_commits_project", "project_commits", ["project_id"], schema=SCHEMA)
    op.create_index("idx_project_commits_commit", "project_commits", ["commit_id"], schema=SCHEMA)
    op.create_table(
        "file_versions",
        sa.Column("id", postgresql.UUID(), primary_key=True),
        sa.Column("project_id", postgresql.UUID(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("commit_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("modified_by", postgresql.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema=SCHEMA,
    )
    op.create_index("idx_file_versions_project_path", "file_versions", ["project_id", "path"], schema=SCHEMA)
    op.create_index(
        "idx_file_versions_latest",
        "file_versions",
        ["project_id", "path", sa.text("created_at DESC")],
        schema=SCHEMA,
    )
    op.execute(
        """
        CREATE FUNCTION public.update_user_dags_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.updated_at = now();
            RETURN NEW;
        END;
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER update_user_dags_updated_at_trigger BEFORE UPDATE ON public.user_dags
        FOR EACH ROW EXECUTE FUNCTION public.update_user_dags_updated_at()
        """
    )


def downgrade() -> None:
    op.drop_table("file_versions", schema=SCHEMA)
    op.drop_table("project_commits", schema=SCHEMA)
    op.drop_table("user_dags", schema=SCHEMA)
    op.execute("DROP FUNCTION public.update_user_dags_updated_at()")
