"""The end of a server process: in order, and never later than its clean-up.

The interpreter waits for every thread that is not a daemon before it ends. A synchronous node that still works when
the server stops is such a thread, and nothing can interrupt it; its run has been given back to the queue by then.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

_log = logging.getLogger(__name__)

_PATIENCE = 0.5  # what idle threads need to hear that the interpreter ends


def leave(code: int) -> int:
    """Return the exit code, for a process that has nothing left to do but to end.

    Threads that keep it are left behind after a moment. Without such threads the interpreter ends as usual, however
    long that takes: what guests registered with `atexit` is done.
    """
    threading.Thread(target=_insist, args=(code,), name="heddle-leave", daemon=True).start()
    return code


def _insist(code: int) -> None:
    time.sleep(_PATIENCE)
    busy = [thread.name for thread in threading.enumerate() if _keeps_the_process(thread)]
    if not busy:
        return
    _log.warning("threads_left_behind", extra={"threads": busy})
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _keeps_the_process(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()
