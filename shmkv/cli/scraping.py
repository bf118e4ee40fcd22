"""The verb metrics: what stores count, as text for Prometheus.

Owns: which stores are meant, what is said of those that cannot be read, and the sentence for who
lacks the library.

Promises: what can be read is printed, whatever is wrong with the other stores: those are told on
standard error and are `shmkv_up` 0 in the text. Exit code 3 only if one that was named failed.

Does not: make the text (`shmkv/metrics`), which needs prometheus_client and is imported when it is
needed.
"""

from __future__ import annotations

import os
from typing import Any

import click

from shmkv import config, segment
from shmkv.cli import complete, output
from shmkv.cli.call import owner_option
from shmkv.cli.output import Failure, tell
from shmkv.cli.target import missing
from shmkv.errors import Error, NotFound


def room() -> Any:
    """The room, which needs prometheus_client; it says so itself."""
    try:
        import shmkv.metrics as found
    except ImportError as error:
        raise Failure(str(error)) from error
    return found


@click.command("metrics")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete.names)
@click.option("--openmetrics", is_flag=True, help="In the format OpenMetrics.")
def metrics_(names: tuple[str, ...], openmetrics: bool, owner: int | None) -> None:
    """Print the metrics of stores for Prometheus, of all yours if none is named.

    Stores are only read. One that cannot be read has `shmkv_up` 0, and the
    reason is on standard error; exit code 3 if it was named. `shmkv daemon NAME
    --metrics 127.0.0.1:PORT` serves the same over HTTP.
    """
    for name in names:
        try:
            config.check_name(name)
        except ValueError as error:
            raise Failure(str(error)) from None
    failed: dict[str, Exception] = {}
    found = room()
    collector = found.StoreCollector(*names, owner=owner, on_error=failed.__setitem__)
    output.put(found.text(collector, openmetrics=openmetrics))
    for name, why in failed.items():
        tell(_words(name, owner, why))
    if names and failed:
        raise click.exceptions.Exit(3)


metrics_.params.append(owner_option())


def _words(name: str, owner: int | None, error: Exception) -> str:
    """Why a store could not be read; of one that is not there, which may have been meant."""
    path = segment.file_path(name, os.geteuid() if owner is None else owner)
    if isinstance(error, NotFound) and not os.path.lexists(path):
        return missing(name, owner)
    if isinstance(error, OSError) and not isinstance(error, Error):
        return f"store {name!r}: {output.of_system(error)}"
    return str(error)
