"""The address of a PostgreSQL database, in every spelling people use, and back again for each client.

`parse` accepts `postgres://`, `postgresql://` and `postgresql+driver://`, TCP hosts and unix socket
folders (`?host=/dir`, `//%2Fdir/name`, or no host at all), IPv6 in brackets, percent-encoded names and
passwords, and any query parameter. Nothing here prints a password: `str` and `repr` are redacted, and an
error names the setting, never the text it could not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

__all__ = ["Dsn", "InvalidDsn"]

_SCHEMES = ("postgres", "postgresql")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_HIDDEN = "***"
_ENCODE = "a '/', '?', ':' or '@' in a user name or password must be written %2F, %3F, %3A, %40"
# libpq parameters that asyncpg takes as arguments of `connect`; SSL ones only make sense on TCP.
_SSL_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "ssl_min_protocol_version")
_SERVER_SETTINGS = ("application_name", "search_path", "options")
_KNOWN = {
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "database",
    "sslmode",
    "ssl",
    "connect_timeout",
    "target_session_attrs",
    "passfile",
    "gssencmode",
    "channel_binding",
    "sslnegotiation",
    "sslcrldir",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    *_SSL_FILES,
    *_SERVER_SETTINGS,
}


class InvalidDsn(ValueError):
    """The text is not a PostgreSQL address. The message never repeats the text: it may hold a password."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Dsn:
    """One PostgreSQL database: where it is, who connects, and the options of the connection.

    `host` is None for the platform's default, a folder (it starts with `/`) for a unix socket,
    or a name or address. `options` holds the other parameters, named as libpq names them.
    """

    host: str | None = None
    port: int = 5432
    user: str | None = None
    password: str | None = None
    database: str | None = None
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, text: str, *, name: str = "DATABASE_URL") -> Dsn:
        """Read an address; `name` is the setting that an error blames."""
        scheme, found, rest = text.strip().partition("://")
        if not found or scheme.partition("+")[0].lower() not in _SCHEMES:
            raise InvalidDsn(
                f"{name} must start with postgresql:// (or postgres://, postgresql+asyncpg://), "
                "as in postgresql://user:password@localhost:5432/heddle"
            )
        before_query, _, query_text = rest.partition("?")
        authority, _, path = before_query.partition("/")
        credentials, _, netloc = authority.rpartition("@")
        user, has_password, password = credentials.partition(":")
        if "@" in path:
            raise InvalidDsn(f"{name} has an '@' after the first '/': {_ENCODE}")
        query = _query(query_text, name)
        host, port = _host_and_port(netloc, query, name)
        options = {
            key: value
            for key, value in query.items()
            if key not in ("host", "port", "user", "password", "dbname", "database")
        }
        if "ssl" in options:
            options.setdefault("sslmode", _ssl_mode(options.pop("ssl")))
        mode = options.get("sslmode")
        if mode is not None and mode not in _SSL_MODES:
            raise InvalidDsn(f"{name} has an unknown sslmode: use one of {', '.join(_SSL_MODES)}")
        return cls(
            host=host,
            port=port,
            user=unquote(user) or query.get("user"),
            password=unquote(password) if has_password else query.get("password"),
            database=unquote(path) or query.get("dbname") or query.get("database"),
            options=MappingProxyType(options),
        )

    @property
    def is_socket(self) -> bool:
        """True when the server is reached through a unix socket."""
        return self.host is not None and self.host.startswith("/")

    def with_database(self, database: str) -> Dsn:
        """The same server, another database."""
        return Dsn(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=database,
            options=self.options,
        )

    def asyncpg_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for `asyncpg.connect` and `asyncpg.create_pool`.

        The port is always given, so that PGPORT in the environment cannot redirect the connection.
        Certificate files travel in a `dsn`, the only way in which asyncpg takes them.
        """
        kwargs: dict[str, Any] = {"port": self.port}
        given = {"host": self.host, "user": self.user, "password": self.password, "database": self.database}
        kwargs |= {name: value for name, value in given.items() if value is not None}
        if self.is_socket:
            kwargs["ssl"] = False  # PGSSLMODE in the environment is meant for other servers
        elif files := {key: self.options[key] for key in _SSL_FILES if key in self.options}:
            mode = {"sslmode": self.options.get("sslmode", "prefer")}
            kwargs["dsn"] = "postgresql://?" + urlencode({**mode, **files}, quote_via=quote)
        elif "sslmode" in self.options:
            kwargs["ssl"] = self.options["sslmode"]
        if "connect_timeout" in self.options:
            kwargs["timeout"] = float(self.options["connect_timeout"])
        if "target_session_attrs" in self.options:
            kwargs["target_session_attrs"] = self.options["target_session_attrs"]
        settings = {key: self.options[key] for key in ("application_name", "search_path") if key in self.options}
        settings |= {key: value for key, value in self.options.items() if key not in _KNOWN}
        settings |= _command_line_settings(self.options.get("options", ""))
        if settings:
            kwargs["server_settings"] = settings
        return kwargs

    def sqlalchemy_url(self, driver: str = "asyncpg") -> str:
        """The URL SQLAlchemy's dialect takes: where and who. Pass the rest as `connect_args`, from `asyncpg_kwargs`."""
        return self._url(f"postgresql+{driver}", self.password, {})

    def libpq_url(self) -> str:
        """The URL for psql, pg_dump, psycopg and asyncpg, with the password in it."""
        return self._url("postgresql", self.password, self.options)

    def redacted(self) -> str:
        """The URL for people and logs: `***` stands for the password."""
        options = {key: _HIDDEN if key == "sslpassword" else value for key, value in self.options.items()}
        return self._url("postgresql", None if self.password is None else _HIDDEN, options)

    def __str__(self) -> str:
        return self.redacted()

    def __repr__(self) -> str:
        return f"Dsn({self.redacted()!r})"

    def _url(self, scheme: str, password: str | None, options: Mapping[str, str]) -> str:
        who = quote(self.user or "", safe="")
        if password is not None:
            who += ":" + (password if password == _HIDDEN else quote(password, safe=""))
        query = dict(options)
        if self.is_socket:
            where, query = "", {"host": str(self.host), "port": str(self.port), **query}
        elif self.host is None:
            where, query = "", {"port": str(self.port), **query}
        else:
            where = f"[{self.host}]" if ":" in self.host else self.host
            where += f":{self.port}"
        tail = "?" + urlencode(query, quote_via=quote, safe="/*") if query else ""
        return f"{scheme}://{who + '@' if who else ''}{where}/{quote(self.database or '', safe='')}{tail}"


def _query(text: str, name: str) -> dict[str, str]:
    try:
        # "+" is a plus sign in libpq URLs, not a space.
        pairs = parse_qsl(text.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(text))
    except ValueError:
        raise InvalidDsn(f"{name} has a malformed part after the question mark: use name=value&name=value") from None
    return dict(pairs)


def _host_and_port(netloc: str, query: Mapping[str, str], name: str) -> tuple[str | None, int]:
    if netloc.startswith("["):
        host, closed, after = netloc[1:].partition("]")
        if not closed or (after and not after.startswith(":")):
            raise InvalidDsn(f"{name} has a malformed IPv6 address: write it as [::1]:5432")
        port_text = after[1:]
    else:
        host, _, port_text = netloc.partition(":")
    host = query.get("host") or unquote(host)
    port_text = port_text or query.get("port") or "5432"
    if "," in host and not host.startswith("/"):
        raise InvalidDsn(f"{name} names several hosts: Heddle connects to one, so name the primary")
    if not port_text.isascii() or not port_text.isdecimal() or not 0 < int(port_text) < 65536:
        raise InvalidDsn(f"{name} has a port that is not a number from 1 to 65535; {_ENCODE}")
    return host or None, int(port_text)


def _ssl_mode(value: str) -> str:
    return {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(value.lower(), value)


def _command_line_settings(options: str) -> dict[str, str]:
    """`-c name=value -c name=value`, as libpq's `options` parameter carries it."""
    words = options.replace("--", "-c ").replace("-c", " ").split()
    return dict(word.split("=", 1) for word in words if "=" in word)
