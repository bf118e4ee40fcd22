"""The store: what users open. Hot methods are in C, here are the others.

Owns: `open` and `Store`, the handle of one store in one process. A handle may be shared by threads,
inherited by fork and pickled: it arrives as another handle of the same store.

Does not: know names and rights of segments (`segment`), bytes (`_core`), or options (`config`).
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from typing import TYPE_CHECKING, Any, TypeVar

from shmkv import _core, config, launch, log, segment
from shmkv import codec as codecs
from shmkv.errors import Closed, Error, ReadOnly
from shmkv.types import MISSING, Info, Key, Ttl

if TYPE_CHECKING:
    from pathlib import Path

    from shmkv.types import Report, Stats

T = TypeVar("T")


class _Items(ItemsView[Key, Any]):
    """Pairs of a store; what goes while it is walked is left out."""

    _mapping: Store

    def __iter__(self) -> Iterator[tuple[Key, Any]]:
        store = self._mapping
        for key in store:
            value = store.get(key, MISSING)
            if value is not MISSING:
                yield key, value


class _Values(ValuesView[Any]):
    """Values of a store; what goes while it is walked is left out."""

    _mapping: Store

    def __iter__(self) -> Iterator[Any]:
        for _, value in _Items(self._mapping):
            yield value

    def __contains__(self, value: object) -> bool:
        return any(value is other or value == other for other in self)


class Store(_core.Store, MutableMapping[Key, Any]):
    """A handle of a store, made by `open`. A mapping from str or bytes to values.

    Keys have 1 to 65,535 bytes; a `str` and its UTF-8 bytes name the same item. Values come back
    equal and of the same type: None, bool, int, float, str, bytes, list, tuple, dict, set,
    frozenset, datetime, date, time, timedelta (with their time zone), Decimal, UUID and numpy
    arrays, nested up to 64 deep; bytearray and memoryview come back as bytes; anything else,
    subclasses included, raises CodecError unless another codec was asked for. What is read is a
    copy: change it and set it again. Every method works on one key atomically unless it says
    otherwise. All raise Closed after `close`, ReadOnly where a read-only store is to be changed,
    Busy when a living process keeps a lock longer than `lock_timeout`, and Corrupt when the segment
    is damaged. A handle is equal to itself only.
    """

    __slots__ = ("__weakref__", "_noticed", "_options")
    _options: dict[str, Any]
    _noticed: dict[str, int]

    # --- the handle -----------------------------------------------------------------------------

    def __enter__(self) -> Store:
        if self.closed:
            raise Closed(f"store {self.name!r} is closed: open it again")
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach. Waits up to lock_timeout for operations and views of this process, then raises
        Busy and the store stays open. Closing again does nothing."""
        if not self.closed:
            self._notice()
            log.tell(log.DEBUG, "store %r is closed", self.name)
        super().close()

    def _notice(self) -> None:
        """Tell the log what has befallen the store since this handle last looked."""
        if log.listener(log.INFO) is None:
            return
        try:
            now = self._stats()
        except Error:  # closed meanwhile, or damaged: others say so
            return
        log.befallen(self.name, getattr(self, "_noticed", now), now)
        self._noticed = now

    def __repr__(self) -> str:
        state = "closed" if self.closed else config.show_size(self.size)
        return f"<shmkv.Store {self.name!r} {state}>"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[str, dict[str, Any]]]:
        return _reopen, (self.name, self._options)

    # --- one key --------------------------------------------------------------------------------

    def update_with(
        self,
        key: Key,
        fn: Callable[[Any], Any],
        *,
        default: Any = MISSING,
        ttl: Ttl = None,
    ) -> Any:
        """Replace a value by `fn(value)`, atomically, and return what was stored.

        `fn` runs again when another writer came between, so it should have no side effects; it may
        use the store. A missing key counts as `default`, without one it raises KeyError. `ttl`
        replaces the deadline. What `fn` raises comes through and nothing is changed.
        """
        while True:
            try:
                value, token = self.gets(key)
            except KeyError:
                if default is MISSING:
                    raise
                new = fn(default)
                if self.add(key, new, ttl=ttl):
                    return new
            else:
                new = fn(value)
                if self.cas(key, new, token, ttl=ttl):
                    return new

    def setdefault(self, key: Key, default: Any = None, /) -> Any:
        """The value of a key; a missing one is stored as `default` first. Keeps the deadline."""
        if self.readonly:
            raise ReadOnly(f"store {self.name!r} was opened with readonly=True")
        while True:
            value = self.get(key, MISSING)
            if value is not MISSING:
                return value
            if self.add(key, default):
                return bytes(default) if isinstance(default, (bytearray, memoryview)) else default

    def info(self, key: Key, /) -> Info:
        """Type, size, ttl and age of an item, without reading it. Raises KeyError."""
        return Info(*self._info(key))

    # --- all keys -------------------------------------------------------------------------------

    def scan(self, *, prefix: str | bytes | None = None, match: str | None = None) -> Iterator[Key]:
        """An iterator over the keys that begin with `prefix` and match the pattern `match`.

        Patterns are those of `fnmatch`, with regard to case; bytes keys are matched as UTF-8.
        Expired items are left out. Every key that is there throughout is seen at least once; a key
        may be seen twice while the index grows. Not one moment: a key may be gone when it is used.
        """
        if match is not None and not isinstance(match, str):
            raise TypeError(f"match must be a str or None, not {type(match).__name__}")
        if isinstance(prefix, str):
            prefix = prefix.encode()
        if prefix is not None and not isinstance(prefix, bytes):
            raise TypeError(f"prefix must be str, bytes or None, not {type(prefix).__name__}")
        keys = self._scan(prefix)
        return keys if match is None else filter(_matcher(match), keys)

    def items(self) -> ItemsView[Key, Any]:
        """A live view of the pairs; items that go while it is walked are left out."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """A live view of the values; items that go while it is walked are left out."""
        return _Values(self)

    def popitem(self) -> tuple[Key, Any]:
        """Remove some item and return (key, value). Raises KeyError when the store is empty."""
        for key in self:
            value = self.pop(key, MISSING)
            if value is not MISSING:
                return key, value
        raise KeyError(f"store {self.name!r} is empty")

    def update(self, other: Any = (), /, **named: Any) -> None:
        """Set every pair of a mapping or of an iterable, then the named ones. Not one moment."""
        if isinstance(other, Mapping):
            pairs: Iterable[tuple[Key, Any]] = other.items()
        elif hasattr(other, "keys"):
            pairs = ((key, other[key]) for key in other.keys())  # noqa: SIM118
        else:
            pairs = other
        for key, value in pairs:
            self[key] = value
        for key, value in named.items():
            self[key] = value

    # --- the whole store ------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Totals of the store, of all its processes."""
        from shmkv.types.results import Stats

        self._notice()
        return Stats.of(self._stats())

    def resize(self, size: int | str) -> None:
        """Raise `size` while the store is in use, for all its processes at once.

        size: as in `open`, rounded up to 4096 bytes, up to the `max_size` the store was created
        with. Memory is taken from the system as the store fills, not now: if there is none left
        then, the store goes on with what it has, as `stats().nospace` and `shmkv doctor` say;
        NoSpace is not raised here. A store never shrinks: a process may still be reading what would
        go. The size it has already is no error. `unlink` ends it with the store: put the new size
        into the configuration as well; `open` with the size of creation attaches all the same.

        Raises ValueError for a smaller size and for one beyond `max_size`.
        """
        wanted = config.parse_size(size)
        if self._resize(wanted):
            return
        if wanted > self.max_size:
            raise ValueError(
                f"store {self.name!r} cannot be raised to {config.show_size(wanted)}: it was"
                f" created with max_size={config.show_size(self.max_size)}. Unlink it and create it"
                " with a larger one: shmkv.open(..., max_size=...)"
            )
        raise ValueError(
            f"store {self.name!r} has {config.show_size(self.size)} and never shrinks, to"
            f" {config.show_size(wanted)} neither: a process may still be reading what would go."
            " Unlink it and create it smaller"
        )

    def check(self) -> Report:
        """Verify every invariant of the segment while others work, and fold dead attachments.

        Reads all of the index and of the pages: seconds in a store of many GiB.
        """
        from shmkv.types.results import Report

        counts, problems = self._check()
        self._notice()
        if problems:
            log.tell(log.WARNING, "store %r: %s", self.name, problems[0])
        return Report(ok=counts["problem_count"] == 0, problems=tuple(problems), **counts)

    def snapshot(
        self, path: config.Path | None = None, *, compression: str | None = None, keep: int = 2
    ) -> Path:
        """Save everything, while others work, and return the file's path.

        path: a file; None: the store's directory (`open(path=...)`), where the last `keep`
        snapshots stay, with their journals. compression: "zstd" (`pip install 'shmkv[zstd]'`).
        Every item is as it was at some moment meanwhile. The file appears when it is whole and on
        disk. Raises PersistError; what was there before is then as it was.
        """
        from shmkv.persist.save import snapshot

        return snapshot(self, path, self._options["path"], compression, keep)


def _matcher(pattern: str) -> Callable[[Key], bool]:
    import fnmatch
    import re

    match = re.compile(fnmatch.translate(pattern)).match

    def matches(key: Key) -> bool:
        text = key if isinstance(key, str) else key.decode(errors="surrogateescape")
        return match(text) is not None

    return matches


def open(
    name: str,
    *,
    size: int | str | None = None,
    max_size: int | str | None = None,
    create: config.Create = True,
    mode: int = 0o600,
    owner: int | None = None,
    readonly: bool = False,
    evict: bool | None = None,
    codec: str = "safe",
    path: config.Path | None = None,
    journal: config.Journal | None = None,
    on_mismatch: config.OnMismatch | None = None,
    on_corrupt: config.OnCorrupt = "fail",
    lock_timeout: float | None = None,
    daemon: bool | None = None,
) -> Store:
    """Attach to the store `name`, or create it. The result is a context manager.

    name: 1 to 100 of A-Z a-z 0-9 . _ - (not "." or ".."); it is this user's name.
    size, max_size: bytes, or "256MiB", "1g"; 2 MiB to 64 GiB. Without `size`: what is there, or
        64 MiB. `max_size` is what `size` may be raised to later: 4 x `size` by default. Without
        them, SHMKV_SIZE and SHMKV_MAX_SIZE say what a store that is created has.
    create: True attaches or creates; False raises NotFound; "new" raises Exists.
    mode: of the segment's file, whatever the umask; an existing one may not let in more.
    owner: user id of the store; root creates with it for workers that drop their privileges.
    readonly: neither creates nor changes anything; takes no attachment row.
    evict: may items leave to make room? With False a full store raises Full. Without it: as the
        store is, or SHMKV_EVICT or True for a new one.
    codec: what stores values that are not plain: "safe"; "pickle", which takes any object and runs
        code that the writers chose when it reads; or the name given to `register_codec`.
    path: a directory of the store's own, made with mode 0700 if there is none. A store that is not
        in memory comes back from it, with the size, max_size and evict it had unless others are
        given; `snapshot` saves to it. All processes that may create the store should name it.
    journal: "everysec": what is written is on disk a second later, or "always": when the call
        returns. Fixed when the store is created; without it: as the store is. Starts a daemon.
        It saves snapshots, too: after an hour with a change, 5 minutes with 100, a minute with
        10,000. Other rules: start it before, `shmkv daemon NAME --path DIR --save "60 1"`.
    on_mismatch: if the store has another size, max_size, evict or journal: "fail" raises Mismatch,
        "recreate" replaces it by an empty one, or by what is in `path`, "attach" takes it as it is.
        A store that `resize` has raised may be asked for by any size from that of its creation to
        the present one. Without it: as SHMKV_ON_MISMATCH says, fail or attach; "fail".
    on_corrupt: "fail" raises Corrupt; "recreate" looks at all of it (as `check` does, which takes
        seconds in a store of many GiB) and replaces a damaged store by an empty one, or by what is
        in `path`.
    lock_timeout: seconds to wait for a lock that a living process holds, before Busy; without it
        SHMKV_LOCK_TIMEOUT, or 5.
    daemon: start `shmkv daemon` for the store if it has none. It works ahead, so that writers
        seldom have to, outlives this process, and ends when the store is removed. However many
        ask at once, one is started. Without it: as SHMKV_DAEMON says, 0 or 1; 0.

    Raises TypeError, ValueError (options), NotFound, Exists, Denied, NoSpace, Mismatch, Corrupt,
    Busy, PersistError. Warns when another user has a store of this name, and when a store comes
    back from less than the newest files.
    """
    encoder = codecs.find(codec)
    options = config.judge(
        name,
        size=size,
        max_size=max_size,
        create=create,
        mode=mode,
        owner=owner,
        readonly=readonly,
        evict=evict,
        codec=codec,
        path=path,
        journal=journal,
        on_mismatch=on_mismatch,
        on_corrupt=on_corrupt,
        lock_timeout=lock_timeout,
        daemon=daemon,
    )
    if options.path is None:
        store = segment.attach(Store, options)
    else:
        from shmkv import persist

        store = persist.open_store(Store, options)
    store._codec = encoder
    store._options = _handed_on(store, options)
    log.opened(store, options.readonly)
    store._notice()
    if options.daemon or options.journal is not None:
        launch.ensure(store, owner=owner, mode=mode, path=options.path)
    return store


def _handed_on(store: Store, options: config.Options) -> dict[str, Any]:
    """What a process that is given the store opens it with."""
    made = store._geometry()
    return {
        "size": made["size"],
        "max_size": made["max_size"],
        "create": options.create is not False,
        "mode": options.mode,
        "owner": options.owner,
        "readonly": options.readonly,
        "evict": store.evict,
        "codec": options.codec,
        "on_mismatch": "attach" if options.on_mismatch == "attach" else "fail",
        "lock_timeout": options.lock_timeout,
        "daemon": options.daemon,
        "path": options.path,
    }


def _reopen(name: str, options: dict[str, Any]) -> Store:
    """What unpickling a store calls."""
    return open(name, **options)
