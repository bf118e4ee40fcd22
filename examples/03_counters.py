"""Counters and a rate limit that hold over processes, with one call: `incr`.

`incr` is one atomic step, so counts are exact however many count. With `ttl=` the deadline is set
by the call that creates the key and by no other: the first request opens a window, the others count
in it, and when it is over the key is gone and the next request opens another.
"""

import multiprocessing
import os

import shmkv

NAME = f"counters-{os.getpid()}"
WORKERS, REQUESTS, LIMIT, WINDOW = 4, 500, 1_000, 60.0


def allowed(store: shmkv.Store, client: str) -> bool:
    """Is the client within LIMIT requests in WINDOW seconds? For all workers together."""
    return store.incr(f"limit:{client}", ttl=WINDOW) <= LIMIT


def worker(store: shmkv.Store) -> None:
    """Answer or refuse the requests of one client, as each of many web workers does."""
    for _ in range(REQUESTS):
        store.incr("requests")
        store.incr("answered" if allowed(store, "10.0.0.7") else "refused")
    store.incr("workers done")


def main() -> None:
    with shmkv.open(NAME, size="4MiB") as store:
        workers = [
            multiprocessing.Process(target=worker, args=(store,), daemon=True)
            for _ in range(WORKERS)
        ]
        for process in workers:
            process.start()
        for process in workers:
            process.join(60)
            assert process.exitcode == 0

        counts = {key: store[key] for key in ("requests", "answered", "refused")}
        print(f"{WORKERS} workers:", counts)
        left = store.ttl("limit:10.0.0.7")
        assert left is not None
        print(f"the next window opens in {left:.0f} s")
        store.decr("workers done", WORKERS)  # down to 0 again; the key stays

        assert counts == {
            "requests": WORKERS * REQUESTS,
            "answered": LIMIT,
            "refused": WORKERS * REQUESTS - LIMIT,
        }
        assert store["limit:10.0.0.7"] == WORKERS * REQUESTS
        assert 0 < left <= WINDOW
        assert store["workers done"] == 0


if __name__ == "__main__":
    try:
        main()
    finally:
        shmkv.unlink(NAME, missing_ok=True)
