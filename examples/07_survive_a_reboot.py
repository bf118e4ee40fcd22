"""A shop's orders that survive a reboot: snapshot and journal.

With `path=` a store comes back from a directory when it is not in memory; with `journal="always"` a
write returns when it is on disk. The reboot is played: the worker is killed, the segment removed.
Snapshots keep the journal short; in earnest the daemon that `open` starts saves them by itself.
"""

import multiprocessing
import os
import tempfile
from multiprocessing.connection import Connection

import shmkv

NAME = f"orders-{os.getpid()}"
ORDERS = 100


def open_shop(folder: str) -> shmkv.Store:
    """The same call the first time, in every worker, and after a reboot."""
    return shmkv.open(NAME, size="4MiB", path=folder, journal="always", evict=False)


def sell(folder: str, confirm: Connection) -> None:
    """Take orders until killed; each one that is confirmed must never be lost."""
    store = open_shop(folder)
    while True:
        number = store.incr("orders")
        store[f"order:{number}"] = {"item": "teapot", "total": 12 * number}
        if number == ORDERS // 2:
            store.snapshot()
        confirm.send(number)


def sell_until_killed(folder: str) -> int:
    """Orders are taken; then the machine loses its power. The last one that was confirmed."""
    here, there = multiprocessing.Pipe(duplex=False)
    worker = multiprocessing.Process(target=sell, args=(folder, there), daemon=True)
    worker.start()
    confirmed = 0
    while confirmed < ORDERS:
        assert here.poll(60)
        confirmed = here.recv()
    worker.kill()
    worker.join(60)
    while here.poll():
        confirmed = here.recv()
    return confirmed


def main() -> None:
    # The daemon of the first store may still be about to end when the directory goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as top:
        folder = os.path.join(top, "orders")
        confirmed = sell_until_killed(folder)
        shmkv.unlink(NAME)  # what a reboot does to memory
        print(f"{confirmed} orders confirmed, on disk: {', '.join(sorted(os.listdir(folder)))}")

        with open_shop(folder) as store:
            for number in range(1, confirmed + 1):
                assert store[f"order:{number}"]["total"] == 12 * number
            assert store["orders"] in (confirmed, confirmed + 1)  # one may not have been confirmed
            print(f"all {confirmed} came back, the next one is {store.incr('orders')}")
        shmkv.unlink(NAME)  # the daemon ends with the store


if __name__ == "__main__":
    try:
        main()
    finally:
        shmkv.unlink(NAME, missing_ok=True)
