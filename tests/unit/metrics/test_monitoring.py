"""The monitoring examples: they parse, and every metric and label they name is exported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import shmkv
from shmkv.metrics.table import FAMILIES
from tests.unit.metrics.scrapes import scrape

FOLDER = Path(__file__).parents[3] / "examples" / "monitoring"
DASHBOARD = json.loads((FOLDER / "shmkv.dashboard.json").read_text())
RULES = yaml.safe_load((FOLDER / "shmkv.rules.yml").read_text())
CONFIG = yaml.safe_load((FOLDER / "prometheus.yml").read_text())


def alerts() -> list[dict[str, Any]]:
    """All rules."""
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def asked() -> Iterator[str]:
    """Everything that is asked of Prometheus."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]
    for rule in alerts():
        yield rule["expr"]


def test_every_metric_named_is_exported(store: shmkv.Store, tmp_path: Path) -> None:
    store.snapshot(tmp_path / "copy.shmkv")
    exported = {key[0] for key in scrape(store.name)}
    named = {name for text in asked() for name in re.findall(r"\bshmkv_\w+", text)}
    assert named <= exported, named - exported
    assert len(named) > 10


def test_every_word_of_a_label_is_one() -> None:
    words = {family.name: (family.label, set(family.totals)) for family in FAMILIES}
    seen = 0
    for text in asked():
        for name, inside in re.findall(r"\b(shmkv_\w+)\{([^}]*)\}", text):
            for label, value in re.findall(r'(\w+)="(\w+)"', inside):
                seen += 1
                assert label == words[name][0], text
                assert value in words[name][1], text
    assert seen > 8


def test_counters_are_asked_for_their_rise() -> None:
    """The bare number of a counter says how old a store is, and nothing else."""
    for text in asked():
        for before in re.findall(r"(\w+\(|.)\s*shmkv_\w+_total\b", text):
            assert before in {"rate(", "increase("}, text


def test_the_rules() -> None:
    assert [rule["alert"] for rule in alerts()] == [
        "ShmkvHitRatioFalling",
        "ShmkvWritesRefused",
        "ShmkvNearlyFull",
        "ShmkvHurt",
        "ShmkvSnapshotTooOld",
        "ShmkvJournalBroken",
    ]
    for rule in alerts():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"]
        assert "$labels.store" in rule["annotations"]["summary"]
        verbs = re.findall(r"`shmkv (\w+)`", rule["annotations"]["description"])
        assert verbs or rule["alert"] == "ShmkvWritesRefused"
    assert CONFIG["rule_files"] == ["shmkv.rules.yml"]


def test_the_dashboard() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) > 8
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for text in asked():
        assert set(re.findall(r"\$(\w+)", text)) <= names | {"__rate_interval"}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert panel["description"]


@pytest.mark.parametrize("what", ["text", "parentheses"])
def test_expressions_are_whole(what: str) -> None:
    for text in asked():
        assert text.strip()
        if what == "parentheses":
            assert text.count("(") == text.count(")")
            assert text.count("{") == text.count("}")
