"""Change a value only if nobody else has: two processes move money and no cent is lost.

What is atomic is one key. So what must change together is stored together: here all accounts are
one dict under one key. `gets` gives the value with a token, `cas` stores only if the token still
holds, and who was too late looks again. `update_with` is that loop; it may call its function more
than once, so the function only computes. (`get` and then `set` would lose what came in between.)
"""

import multiprocessing
import os

import shmkv

NAME = f"accounts-{os.getpid()}"
ACCOUNTS = {"ann": 100_000, "bob": 100_000}  # in cents
TRANSFERS = 1_000


def moved(accounts: dict[str, int], source: str, target: str, cents: int) -> dict[str, int]:
    """The accounts after a transfer, or ValueError."""
    if accounts[source] < cents:
        raise ValueError(f"{source} has only {accounts[source]} cents")
    return {
        **accounts,
        source: accounts[source] - cents,
        target: accounts[target] + cents,
    }


def by_hand(store: shmkv.Store) -> None:
    """The loop, to see it: from ann to bob."""
    for _ in range(TRANSFERS):
        done = False
        while not done:
            accounts, token = store.gets("accounts")
            done = store.cas("accounts", moved(accounts, "ann", "bob", 3), token)
            if not done:
                store.incr("too late")


def by_update(store: shmkv.Store) -> None:
    """The same in one call: from bob to ann."""
    for _ in range(TRANSFERS):
        store.update_with("accounts", lambda accounts: moved(accounts, "bob", "ann", 2))


def main() -> None:
    with shmkv.open(NAME, size="4MiB") as store:
        store["accounts"] = ACCOUNTS
        workers = [
            multiprocessing.Process(target=target, args=(store,), daemon=True)
            for target in (by_hand, by_update)
        ]
        for process in workers:
            process.start()
        for process in workers:
            process.join(60)
            assert process.exitcode == 0
        print(store["accounts"], "too late and tried again:", store.get("too late", 0))

        try:
            store.update_with("accounts", lambda accounts: moved(accounts, "ann", "bob", 10**9))
        except ValueError as error:
            print("refused:", error)  # what the function raises comes through; nothing is changed

        assert sum(store["accounts"].values()) == sum(ACCOUNTS.values())
        assert store["accounts"] == {"ann": 100_000 - TRANSFERS, "bob": 100_000 + TRANSFERS}


if __name__ == "__main__":
    try:
        main()
    finally:
        shmkv.unlink(NAME, missing_ok=True)
