"""Live views of a store: what happens in it now, which keys are hot, how one changes, how large.

    from shmkv.top import Meter

    with shmkv.open("web", readonly=True) as store:
        meter = Meter(store)
        meter.look()
        time.sleep(1)
        print(meter.look().rates["hits"])

Owns: looks at a store (`sample`), what follows from two (`model`), hot keys (`hot`), a key under
watch (`watch`), the size that is needed (`plan`), text of a given width (`draw`), and the full
screen (`screen`, the only file that needs another library: `shmkv[top]`).

Promises: looks attach read-only, take no lock and no row, and change no counter; only `hot.counted`
writes, and says so. Nothing is formatted while anything is held.

Does not: know the command line.
"""

from shmkv.top.model import Frame, History, Meter

__all__ = ["Frame", "History", "Meter"]
