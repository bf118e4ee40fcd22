"""Web workers write, a cron job and a shell read: the store is there by name for everybody.

The workers have ended when the others come; the data stays until the store is unlinked or the
machine restarts. The cron job is a program of its own that opens the store read-only. `shmkv`,
here `python -m shmkv`, is the same for shells; it ends with 0 for yes, 1 for a miss.
"""

import json
import multiprocessing
import os
import subprocess
import sys

import shmkv

NAME = f"pages-{os.getpid()}"
PAGES = {"/": 30, "/about": 20, "/news": 10}

CRON_JOB = """
import shmkv, sys
with shmkv.open(sys.argv[1], create=False, readonly=True) as store:
    pages = {key: store[key] for key in store.scan(prefix="page:")}
    print(max(pages, key=pages.get), sum(pages.values()))
"""


def web_worker(store: shmkv.Store, number: int) -> None:
    """Count the pages that were asked for."""
    for page, times in PAGES.items():
        for _ in range(times):
            store.incr(f"page:{page}")
    store.set(f"worker:{number}", {"pid": os.getpid(), "state": "done"}, ttl=3600)


def run(*words: str, code: int = 0) -> str:
    """What a command says; it must end with this exit code."""
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == code, (words, done.returncode)
    return done.stdout.strip()


def main() -> None:
    with shmkv.open(NAME, size="4MiB") as store:
        workers = [
            multiprocessing.Process(target=web_worker, args=(store, number), daemon=True)
            for number in range(2)
        ]
        for process in workers:
            process.start()
        for process in workers:
            process.join(60)
            assert process.exitcode == 0

    print("cron job:", report := run("-c", CRON_JOB, NAME))
    print("shmkv get:", hits := run("-m", "shmkv", "get", NAME, "page:/news"))
    print("shmkv scan:", keys := run("-m", "shmkv", "scan", NAME, "--prefix", "page:").split())
    lines = run("-m", "shmkv", "export", NAME, "--match", "worker:*").splitlines()
    print("shmkv export:", *lines, sep="\n  ")
    missing = run("-m", "shmkv", "get", NAME, "page:/nowhere", code=1)

    assert report == "page:/ 120"
    assert hits == "20"
    assert sorted(keys) == [f"page:{page}" for page in PAGES]
    assert {json.loads(line)["key"] for line in lines} == {"worker:0", "worker:1"}
    assert missing == ""


if __name__ == "__main__":
    try:
        main()
    finally:
        shmkv.unlink(NAME, missing_ok=True)
