"""Fixtures that several files of this folder share: codecs of one's own.

Promises: what a test registers is forgotten at its end.
"""

from __future__ import annotations

from typing import Any

import pytest

import shmkv
from shmkv import codec as codecs
from tests.unit.codec_values import Own


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Codecs registered by a test are forgotten at its end."""
    fresh: dict[str, Any] = {}
    monkeypatch.setattr(codecs, "registered", fresh)
    return fresh


@pytest.fixture
def own(registry: dict[str, Any]) -> Own:
    """A registered codec."""
    made = Own("own-1.x_")
    shmkv.register_codec(made)
    return made
