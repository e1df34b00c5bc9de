"""The end of a server process: in order, and never later than its clean-up.

The interpreter waits for the threads of every pool before it ends. A synchronous node that still works when the
server stops is such a thread, and nothing can interrupt it; its run has been given back to the queue by then.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading

_log = logging.getLogger(__name__)

_PATIENCE = 0.5  # what idle threads need to hear that the interpreter ends


def leave(code: int) -> int:
    """Return the exit code, for a process that has nothing left to do but to end.

    Threads that keep it are left behind after a moment. Without such threads the interpreter ends as usual, however
    long that takes: what guests registered with `atexit` is done.
    """
    joined = threading.Event()
    atexit.register(joined.set)  # the interpreter joins threads first, and calls what was registered last first
    threading.Thread(target=_insist, args=(code, joined), name="heddle-leave", daemon=True).start()
    return code


def _insist(code: int, joined: threading.Event) -> None:
    if joined.wait(_PATIENCE):
        return
    stay = (threading.main_thread(), threading.current_thread())
    _log.warning("threads_left_behind", extra={"threads": [t.name for t in threading.enumerate() if t not in stay]})
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
