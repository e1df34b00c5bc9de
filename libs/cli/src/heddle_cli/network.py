"""The listening socket, and who can reach it."""

from __future__ import annotations

import errno
import ipaddress
import socket

from heddle_server.config import StartError


def is_loopback(host: str) -> bool:
    """True when only this machine can connect to `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_safe(host: str, *, allow_unauthenticated: bool) -> None:
    """Refuse an address that others reach, as long as nobody is asked who they are."""
    if not is_loopback(host) and not allow_unauthenticated:
        raise StartError(
            f"{host or 'every address'} can be reached from other machines, and this server asks nobody who they are",
            fix="listen on 127.0.0.1 behind a proxy that authenticates, or say --allow-unauthenticated "
            "(and name the server's host names in ALLOWED_HOSTS)",
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. A taken port is refused with a way out."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise StartError(
            f"there is no address called {host!r}: {error.strerror}", fix="correct --host or HOST"
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _explain(error, host, port) from None
    return listener


def url(host: str, port: int) -> str:
    """The address to type on this machine."""
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # nosec B104
    return f"http://{f'[{name}]' if ':' in name and not name.startswith('[') else name}:{port}"


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _explain(error: OSError, host: str, port: int) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(
            f"port {port} on {host or 'every address'} is taken by another program",
            fix=f"stop that program, or choose another port with --port {port + 1 if port < 65535 else 0} or PORT",
        )
    if error.errno == errno.EACCES:
        return StartError(
            f"this user may not listen on port {port}", fix="choose a port from 1024 up with --port or PORT"
        )
    return StartError(f"cannot listen on {host}:{port}: {error.strerror}", fix="correct --host and --port")
