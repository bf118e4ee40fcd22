"""The daemon of a store: does ahead, and gently, what a writer would else do when it needs memory.

`serve` is all of it: wait for one's turn, be the one daemon of a store, work until told to stop.
Nothing needs it: workers free and fold for themselves whenever there is none. It logs under
"shmkv.daemon", which is silent unless a program gives it a handler.
"""

import logging

from shmkv.daemon.loop import End, Result, serve
from shmkv.daemon.notify import Told
from shmkv.daemon.stop import Stop, stop_on_signals
from shmkv.daemon.turn import Task

logging.getLogger("shmkv.daemon").addHandler(logging.NullHandler())

__all__ = ["End", "Result", "Stop", "Task", "Told", "serve", "stop_on_signals"]
