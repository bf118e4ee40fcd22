"""What stores count, as metrics of Prometheus: for a program of one's own, a file, or an endpoint.

    from prometheus_client import REGISTRY
    from shmkv.metrics import StoreCollector

    REGISTRY.register(StoreCollector("web"))  # without a name: all stores of this user

Public names of the room only; README.md is its map. Needs prometheus_client, which makes the text
(`pip install 'shmkv[metrics]'`): it keeps up with the formats, this package does not have to.
"""

try:
    import prometheus_client as _needed  # noqa: F401 - said here, once, in words
except ImportError as error:
    raise ImportError(
        "metrics need prometheus_client: pip install 'shmkv[metrics]'", name=error.name
    ) from error

from shmkv.metrics.address import Address, parse
from shmkv.metrics.collector import StoreCollector, text
from shmkv.metrics.endpoint import Endpoint

__all__ = ["Address", "Endpoint", "StoreCollector", "parse", "text"]
