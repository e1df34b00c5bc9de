"""Every error this server can mean.

    HeddleError
    ├── InvalidRequest        a field has the wrong shape or value
    │   └── NotInThisVersion  a field the protocol knows and this version does not do
    ├── BadRequest            well-formed, but it makes no sense here
    ├── NotFound              no such resource, or none that you may see
    ├── Conflict              it exists already, or it is in use
    │   └── ThreadBusy        the thread is running something else
    ├── Unavailable           the server cannot do it now; try again
    ├── GraphLoadError        a graph of the configuration cannot be loaded
    ├── GraphFailed           the graph raised
    └── LeaseLost             this process no longer owns the run

The class says what happened, its fields say to whom. `http/errors.py` maps them to status codes.
"""

from __future__ import annotations

from uuid import UUID


class HeddleError(Exception):
    """Something the server means to say."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())

    @property
    def message(self) -> str:
        return str(self.args[0])


class InvalidRequest(HeddleError):
    """The request has a field of the wrong shape or value."""

    def __init__(self, problem: str, *, field: str | None = None) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


class NotInThisVersion(InvalidRequest):
    """The protocol knows this field; this version of Heddle does not do it yet."""

    def __init__(self, field: str) -> None:
        super().__init__("not supported by this version of Heddle; leave it out or set it to null", field=field)


class BadRequest(HeddleError):
    """The request is well-formed but makes no sense here."""


class NotFound(HeddleError):
    """Not Found"""

    @classmethod
    def thread(cls, thread_id: UUID) -> NotFound:
        return cls(f"Thread with ID {thread_id} not found")

    @classmethod
    def assistant(cls, assistant_id: UUID | str) -> NotFound:
        return cls(f"Assistant with ID {assistant_id} not found")

    @classmethod
    def run(cls, run_id: UUID) -> NotFound:
        return cls(f"Run with ID {run_id} not found")


class Conflict(HeddleError):
    """The resource exists already or is in use."""


class ThreadBusy(Conflict):
    """Thread is already running a task. Wait for it to finish or choose a different multitask strategy."""

    def __init__(self, thread_id: UUID) -> None:
        super().__init__()
        self.thread_id = thread_id


class Unavailable(HeddleError):
    """The server cannot do this now. Try again in a moment."""


class GraphLoadError(HeddleError):
    """A graph of the configuration cannot be loaded."""


class GraphFailed(HeddleError):
    """The graph raised. `error` is the exception's class name, the message its text."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message or error)
        self.error = error
        self.text = message


class LeaseLost(HeddleError):
    """This process no longer owns the run; another one may execute it now."""
