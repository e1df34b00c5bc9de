"""Database addresses: every spelling in, every client's form out, and never a password in sight."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import make_url

from heddle_server.dsn import Dsn, InvalidDsn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://u:p@db.example:6543/app", {"host": "db.example", "port": 6543, "user": "u", "password": "p"}),
        ("postgresql://u:p@db.example/app", {"host": "db.example", "port": 5432}),
        ("postgresql+asyncpg://u@db/app", {"host": "db", "user": "u", "password": None}),
        ("postgresql+psycopg://u@db/app", {"host": "db"}),
        ("POSTGRESQL://u@db/app", {"host": "db"}),
        ("postgres://u:p%40ss%2Fw%3Ard@db/app", {"password": "p@ss/w:rd"}),
        ("postgres://u:p@ss@db/app", {"password": "p@ss", "host": "db"}),
        ("postgres://u:p#1@db/app", {"password": "p#1", "host": "db"}),
        ("postgres://u:p+q@db/app", {"password": "p+q"}),
        ("postgres://us%20er@db/app", {"user": "us er"}),
        ("postgres://[::1]:6000/app", {"host": "::1", "port": 6000}),
        ("postgres:///app?host=/var/run/postgresql", {"host": "/var/run/postgresql", "port": 5432}),
        ("postgres://u@/app?host=/my%20dir/pg&port=6000", {"host": "/my dir/pg", "port": 6000, "user": "u"}),
        ("postgres://u@%2Fvar%2Frun%2Fpg/app", {"host": "/var/run/pg"}),
        ("postgres://u@%2Fvar%2Frun%2Fpg:6000/app", {"host": "/var/run/pg", "port": 6000}),
        ("postgres:///app?host=/a&user=q&password=s%26t", {"user": "q", "password": "s&t"}),
        ("postgres:///?host=/a&dbname=app", {"host": "/a"}),
        ("postgresql:///app", {"host": None}),
    ],
)
def test_every_usual_spelling_is_read(text: str, expected: dict[str, Any]) -> None:
    dsn = Dsn.parse(text)
    assert dsn.database == "app"
    assert {name: getattr(dsn, name) for name in expected} == expected


@pytest.mark.parametrize(
    "text",
    [
        "mysql://u:hunter2@db/app",
        "hunter2",
        "",
        "postgres://u:hunter2@db:port/app",
        "postgres://u:hunter2@db:99999/app",
        "postgres://u:hunt/er2@db/app",
        "postgres://u:12/hunter2@db/app",
        "postgres://u:hunter2@[::1/app",
        "postgres://u:hunter2@a,b/app",
        "postgres://u:hunter2@db/app?sslmode=maybe",
        "postgres://u:hunter2@db/app?nonsense",
    ],
)
def test_a_bad_spelling_is_refused_by_the_settings_name_and_without_its_text(text: str) -> None:
    with pytest.raises(InvalidDsn) as refused:
        Dsn.parse(text)
    assert "DATABASE_URL" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    ["postgres://u:hunter2@db/app", "postgres:///app?host=/a&password=hunter2", "postgres://u@h/d?sslpassword=hunter2"],
)
def test_no_way_of_printing_shows_the_password(text: str) -> None:
    dsn = Dsn.parse(text)
    for shown in (str(dsn), repr(dsn), f"{dsn}", dsn.redacted(), repr({"database": dsn})):
        assert "hunter2" not in shown
        assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "postgres://u:p%40%2F%3A%25w@db:6543/my%20app?sslmode=require&application_name=me%20too",
        "postgres://u@/app?host=/my%20dir/a%2Cb&port=5432",
        "postgres://[fe80::1]:5432/app",
        "postgresql:///app",
    ],
)
def test_the_libpq_form_reads_back_as_the_same_address(text: str) -> None:
    dsn = Dsn.parse(text)
    assert Dsn.parse(dsn.libpq_url()) == dsn


def test_asyncpg_gets_arguments_that_the_environment_cannot_redirect() -> None:
    kwargs = Dsn.parse(
        "postgres://u:p%40w@db/app?sslmode=require&search_path=a,b&options=-c%20jit%3Doff"
    ).asyncpg_kwargs()
    assert kwargs == {
        "host": "db",
        "port": 5432,
        "user": "u",
        "password": "p@w",
        "database": "app",
        "ssl": "require",
        "server_settings": {"search_path": "a,b", "jit": "off"},
    }


def test_a_socket_needs_no_ssl_and_always_names_its_port() -> None:
    kwargs = Dsn.parse("postgresql+asyncpg:///app?host=/var/run/pg&sslmode=require").asyncpg_kwargs()
    assert (kwargs["host"], kwargs["port"], kwargs["ssl"]) == ("/var/run/pg", 5432, False)


@pytest.mark.parametrize(
    "text", ["postgres://u:p%40%25w@db:6543/app", "postgres://u@/app?host=/my%20dir/pg", "postgres://[::1]/app"]
)
def test_sqlalchemy_reads_its_form_as_the_same_place(text: str) -> None:
    dsn = Dsn.parse(text)
    url = make_url(dsn.sqlalchemy_url())
    assert url.drivername == "postgresql+asyncpg"
    assert (url.username, url.password, url.database) == (dsn.user, dsn.password, dsn.database)
    assert (url.query["host"] if dsn.is_socket else url.host) == dsn.host


def test_another_database_of_the_same_server_keeps_everything_else() -> None:
    dsn = Dsn.parse("postgres://u:p@db:6543/app?sslmode=require")
    other = dsn.with_database("template1")
    assert other.database == "template1"
    assert (other.host, other.port, other.user, other.password, other.options) == (
        dsn.host,
        dsn.port,
        dsn.user,
        dsn.password,
        dsn.options,
    )
