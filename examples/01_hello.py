"""The first ten minutes: one store, opened by name, shared by whoever opens it.

Everything here happens in one process; another would open the store by its name in the same way.
"""

import os

import shmkv

NAME = f"hello-{os.getpid()}"  # a name of its own: two runs at once do not meet

with shmkv.open(NAME, size="4MiB") as store:
    store["greeting"] = "hello"  # str, bytes, int, float, bool, None come back as they were
    store.set("page:/", b"<html>...</html>", ttl=30)  # seconds; gone for everybody at once
    print(store.get("page:/"), store.get("nobody", "a default"))

    for _ in range(3):
        hits = store.incr("hits")  # atomic, whoever else counts
    print("hits:", hits)

    value, token = store.gets("greeting")
    print("swapped:", store.cas("greeting", f"{value}, world", token))
    print("swapped again with the old token:", store.cas("greeting", "lost", token))

    with shmkv.open(NAME) as other:  # what another process would do
        print(sorted(other), len(other), other["greeting"])

    with store.view("page:/") as memory:  # read-only
        print("bytes:", len(memory))
    print("all is well:", bool(store.check()))

shmkv.unlink(NAME)
