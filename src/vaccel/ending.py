"""The end of a process: at exit, on SIGTERM, at the end of a child of multiprocessing."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from vaccel import config

GRACE = 5.0
"""Seconds that a program may take to end by itself on SIGTERM."""


class Ending:
    """Has `cleanup` called at the end; `remove_files`, which takes no lock, where time is up.

    It does neither where VACCEL_CLEANUP_ENABLED says so.
    """

    def __init__(self, cleanup: Callable[[], None], remove_files: Callable[[], None]) -> None:
        self._cleanup = cleanup
        self._remove_files = remove_files
        self._registered = False
        self._child = 0
        """The child of multiprocessing, by its process id, that will call us."""
        self.handled = False
        """It is settled who handles SIGTERM."""
        self._leaving = False
        """The process ends already: a signal hurries that, but does not interrupt it."""

    def arm(self) -> None:
        """Called when a runtime begins, and, until `handled`, when one is used."""
        if not self._registered:
            self._registered = True
            atexit.register(self._at_exit)
        self._arm_child()
        # Only the main thread can; where another one began the runtime, it does so later.
        if not self.handled and threading.current_thread() is threading.main_thread():
            self.handled = True
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and config.auto_cleanup():
                signal.signal(signal.SIGTERM, self._on_sigterm)

    def _arm_child(self) -> None:
        """Children of multiprocessing may end without `atexit`."""
        util = sys.modules.get("multiprocessing.util")
        process = sys.modules.get("multiprocessing.process")
        if util is None or process is None or self._child == os.getpid():
            return
        if process.parent_process() is not None:
            self._child = os.getpid()
            util.Finalize(None, self._leave, exitpriority=10**6)  # before its own ones
            util.Finalize(None, self._at_exit, exitpriority=-100)  # after them

    def _leave(self) -> None:
        self._leaving = True

    def _at_exit(self) -> None:
        self._leave()
        if config.auto_cleanup():
            self._cleanup()

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        # SystemExit unwinds the program's `with` blocks and then runs the exit handlers, with no
        # lock held. But it ends the main thread only, after which Python waits for the others.
        signal.signal(signum, signal.SIG_DFL)
        if not threading.main_thread().is_alive():  # its code has ended, and it waits already
            self._end(signum)
        overdue = threading.Timer(GRACE, self._end, (signum,))
        overdue.daemon = True
        overdue.start()
        if not self._leaving:
            raise SystemExit(128 + signum)

    def _end(self, signum: int) -> None:
        try:
            self._remove_files()
        finally:
            os.kill(os.getpid(), signum)
            os._exit(128 + signum)  # the first process of a container ignores the signal
