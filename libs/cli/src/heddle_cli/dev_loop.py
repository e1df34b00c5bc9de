"""The parent process of `dev`: one loop over signals, file changes and what its server processes say.

At most one server process is `serving` and one is `starting`. All share the parent's listening socket, so the
port never closes between them: when the new one is ready, the old one is told to stop. A new one that fails is
dropped, and the old one goes on. The parent imports no web or graph library.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time

from heddle_cli import network
from heddle_cli.banner import banner
from heddle_cli.child import Child, describe_exit
from heddle_cli.main import complain
from heddle_cli.postgres import Running
from heddle_cli.project import Project, open_project, start_database, variables
from heddle_cli.watching import Watcher, syntax_error
from heddle_server.config import StartError

GRACE = 3.0
_PATIENCE = GRACE + 5.0  # a server that has not ended by then is stuck
_LOOK_AROUND = 2.0


class DevLoop:
    def __init__(self, project: Project, listener: socket.socket, *, host: str, reload: bool, app: str) -> None:
        self._project = project
        self._listener = listener
        self._host = host
        self._reload = reload
        self._app = app
        self._began = time.monotonic()
        self._running: Running | None = None
        self._watcher: Watcher | None = None
        self._serving: Child | None = None
        self._starting: Child | None = None
        self._leaving: list[Child] = []
        self._was_ready = False
        self._wake = -1

    def run(self) -> int:
        """Serve until told to stop. Returns the exit code; leaves no process behind."""
        self._wake = _wake_on(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        try:
            self._start_child()
            self._running = start_database(self._project)
            if self._reload:  # before the server reads the files, or a change meanwhile would be missed
                self._watcher = Watcher(self._project.config, self._project.data_dir)
            self._give_variables()
            return self._loop()
        finally:
            self._end_all()
            if self._watcher is not None:
                self._watcher.stop()
            if self._running is not None:
                self._running.stop()

    def _loop(self) -> int:
        while True:
            told = self._wait()
            if told & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
                return self._drain()
            if (code := self._look_after_children()) is not None:
                return code
            if self._running is not None and self._running.ensure():
                _say("the embedded PostgreSQL was gone and has been started again")

    def _wait(self) -> set[int]:
        """Wait for something to happen, act on news and file changes, and return the signals that came."""
        sources = [self._wake]
        if self._starting is not None:
            sources.append(self._starting.news)
        if self._watcher is not None:
            sources.append(self._watcher.ready)
        ready, _, _ = select.select(sources, [], [], _LOOK_AROUND)
        told = set(os.read(self._wake, 4096)) if self._wake in ready else set()
        if self._watcher is not None and self._watcher.ready in ready:
            self._on_change(self._watcher)
        return told

    def _look_after_children(self) -> int | None:
        """Act on what children said and on those that ended. Returns an exit code when going on is pointless."""
        code = None
        if self._starting is not None and select.select([self._starting.news], [], [], 0)[0]:
            code = self._on_news(self._starting)
        if self._serving is not None and not self._serving.is_running:
            _say(f"the server ended unexpectedly ({describe_exit(self._serving.process.returncode)})")
            self._serving.close()
            self._serving = None
            if not self._reload:
                return 1
            if self._starting is None:
                _say("waiting for a change of the files to start it again")
        for child in [child for child in self._leaving if not child.is_running]:
            self._leaving.remove(child)
        return code

    def _on_news(self, child: Child) -> int | None:
        news = child.hear()
        self._starting = None
        if news.failure is not None:
            child.close()
            complain(news.failure)
            if not self._was_ready:
                return 1
            _say("still serving what ran before" if self._serving else "waiting for a change of the files")
            return None
        self._retire(self._serving)
        self._serving = child
        if self._was_ready:
            _say("reloaded")
        else:
            self._was_ready = True
            port = network.port_of(self._listener)
            seconds = time.monotonic() - self._began
            print(f"\n{banner(self._project, self._running, self._host, port, seconds)}\n", flush=True)
        return None

    def _on_change(self, watcher: Watcher) -> None:
        changed = watcher.changed()
        _say(f"changed: {', '.join(os.path.relpath(path) for path in changed[:3])}{' ...' if len(changed) > 3 else ''}")
        if (mistake := syntax_error(changed)) is not None:
            complain(StartError(f"not reloaded: {mistake}", fix="correct it; the server goes on with what it has"))
            return
        try:
            project = open_project(self._project.config.path)
        except StartError as error:
            complain(error)
            return
        if project.config != self._project.config:
            self._project = project
            watcher.stop()
            self._watcher = Watcher(project.config, project.data_dir)
        self._retire(self._starting)
        self._start_child()
        self._give_variables()

    def _start_child(self) -> None:
        environ = {**os.environ, "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": f"{GRACE:g}"}
        self._starting = Child(self._project.config.path, self._listener, environ, grace=GRACE, app=self._app)

    def _give_variables(self) -> None:
        if self._starting is not None:
            self._starting.go_on(variables(self._project, self._running))

    def _retire(self, child: Child | None) -> None:
        if child is not None:
            child.close()
            self._leaving.append(child)

    def _drain(self) -> int:
        """Let runs finish for a moment. A second signal, or a server that is stuck, ends that."""
        _say(f"stopping: runs may finish for {GRACE:g} s (Ctrl-C again stops at once)")
        for child in (self._starting, self._serving):
            self._retire(child)
        self._starting = self._serving = None
        deadline = time.monotonic() + _PATIENCE
        while any(child.is_running for child in self._leaving):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._wake], [], [], max(0.0, left))
            told = set(os.read(self._wake, 4096)) if ready else set()
            if told & {signal.SIGINT, signal.SIGTERM}:
                _say("stopped at once; unfinished runs go on when the server is back")
                return 130
            if left <= 0:
                _say("the server did not stop in time and was ended")
                return 1
        return 0

    def _end_all(self) -> None:
        for child in (self._starting, self._serving, *self._leaving):
            if child is not None:
                child.kill()


def _wake_on(*signals: int) -> int:
    """A descriptor that carries the numbers of these signals as bytes.

    The handlers are explicit because a process started with `&` from a script ignores SIGINT.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in signals:
        signal.signal(number, lambda _number, _frame: None)
    return reader


def _say(text: str) -> None:
    print(f"heddle: {text}", file=sys.stderr, flush=True)
