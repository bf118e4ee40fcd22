"""The protocol as a model: the real rules hold in every state, and each rule is needed.

Owns: which runs must hold, which sabotage must be found in which run and as what.

Promises: every run and every sabotage the model knows is in a table here; a run counts only if it
was complete. The reduced runs take about half a minute of one core; `SHMKV_MODEL=full` in the
environment adds the large ones (minutes, up to 4 GB of memory). Results are printed (`-s`).

Does not: test the product's code. The model is compiled into a temporary folder.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("SHMKV_MODEL") == "full"
SOURCES = Path(__file__).parent

# scenario, run: must be complete and without violation
HOLDS = {
    ("slot", "validated"),
    ("slot", "pinned"),
    ("slot", "counter"),
    ("slot", "touch"),
    ("slot", "versions"),
    ("slot", "limbo_claimed"),
    ("split", "two_keys"),
    ("overflow", "two_kills"),
    ("journal", "one_stripe"),
    ("journal", "two_stripes"),
    ("fold", "byte_is_proof"),
    ("fold", "attached_first"),
    ("lock", "kills"),
    ("lock", "patient"),
}
HOLDS_FULL = {
    ("slot", "limbo"),
    ("slot", "log"),
    ("slot", "log_pinned"),
    ("slot", "validated_two_kills"),
    ("slot", "pinned_two_kills"),
    ("split", "full"),
    ("journal", "full"),
}

# scenario, sabotage, run: what must be found
SABOTAGES = {
    ("slot", "no_reservations", "validated"): "stray write",
    ("slot", "late_reservation", "validated"): "stray write",
    ("slot", "early_scan", "log"): "stray write",
    ("slot", "publish_taken", "validated"): "dangling ref",
    ("slot", "free_unread", "validated"): "dangling ref",
    ("slot", "no_slot_recheck", "validated"): "acknowledged write lost",
    ("slot", "no_mutable_recopy", "counter"): "acknowledged change in place lost",
    ("slot", "no_mutable_recopy", "touch"): "acknowledged change in place lost",
    ("slot", "no_expiry_recheck", "touch"): "living item evicted",
    ("slot", "no_writer_raise", "validated"): "mixture",
    ("slot", "no_writer_raise", "versions"): "item.version given twice",
    ("slot", "no_cleaner_raise", "validated"): "mixture",
    ("slot", "no_recovery_raise", "validated"): "mixture",
    ("slot", "no_recovery_raise", "versions"): "item.version given twice",
    ("slot", "raise_before_ref", "validated"): "mixture",
    ("slot", "ref_not_release", "validated"): "not current",
    ("slot", "reader_no_fence", "validated"): "mixture",
    ("slot", "pin_no_recheck", "pinned"): "mixture",
    ("slot", "pin_no_fence", "pinned"): "mixture",
    ("slot", "free_no_pin_scan", "pinned"): "mixture",
    ("slot", "free_no_fence", "pinned"): "mixture",
    ("slot", "limbo_no_generation", "limbo"): "mixture",
    ("slot", "limbo_taken", "limbo_claimed"): "mixture",
    ("slot", "garbage_unvisited", "validated"): "mixture",
    ("slot", "odd_even", "validated"): "a reader alone cannot finish",
    ("split", "recovery_frees_first", "two_keys"): "false miss",
    ("split", "deepest_claims", "two_keys"): "key is in two segments",
    ("split", "no_directory_repair", "two_keys"): "key is in two segments",
    ("split", "no_segment_sweep", "two_keys"): "leak",
    ("split", "free_before_raise", "two_keys"): "false miss",
    ("split", "take_without_stripe", "two_keys"): "key lost",
    ("split", "index_pages_return", "two_keys"): "counter stored into value bytes",
    ("split", "counter_shares_byte", "two_keys"): "deleted key is back",
    ("split", "link_before_fill", "two_keys"): "key lost",
    ("split", "miss_unchecked", "two_keys"): "false miss",
    ("overflow", "count_raised_last", "two_kills"): "overflow count too low",
    ("overflow", "count_lowered_first", "two_kills"): "overflow count too low",
    ("journal", "free_ignores_journal", "one_stripe"): "bytes of another item",
    ("journal", "no_page_position", "one_stripe"): "bytes of another item",
    ("journal", "commit_before_claim", "one_stripe"): "a change was never recorded",
    ("journal", "decided_before_commit", "one_stripe"): "not the next change",
    ("journal", "cleared_first", "one_stripe"): "a change was never recorded",
    ("journal", "no_position_stored", "one_stripe"): "a change was never recorded",
    ("journal", "recovery_ignores", "one_stripe"): "a change was never recorded",
    ("journal", "recovery_plain_store", "two_stripes"): "journal and memory differ",
    ("journal", "claim_without_lap", "two_stripes"): "journal and memory differ",
    ("journal", "fetch_add", "one_stripe"): "hang",
    ("journal", "skip_pending", "one_stripe"): "a change was never recorded",
    ("journal", "abort_without_lock", "one_stripe"): "a change was never recorded",
    ("journal", "mutable_from_page", "one_stripe"): "not the next change",
    ("fold", "row_bears_number", "byte_is_proof"): "two living owners",
    ("fold", "fold_named_only", "byte_is_proof"): "hang",
    ("fold", "no_byte_lock", "byte_is_proof"): "two living owners",
    ("fold", "no_byte_lock", "attached_first"): "page stolen",
    ("fold", "no_private_mutex", "attached_first"): "page stolen",
    ("fold", "number_cleared_first", "attached_first"): "row without the reservation",
    ("fold", "row_in_lock_word", "byte_is_proof"): "two living owners",
    ("fold", "take_by_store", "attached_first"): "two living owners",
    ("fold", "steal_from_living", "attached_first"): "two living owners",
    ("fold", "pages_not_folded", "attached_first"): "hang",
    ("fold", "reservations_not_folded", "attached_first"): "row without the reservation",
    ("fold", "unattached_folds_locks", "attached_first"): "two living owners",
    ("lock", "bit_dropped", "patient"): "lost wake-up",
    ("lock", "sleep_uncompared", "patient"): "lost wake-up",
    ("lock", "no_wake", "patient"): "lost wake-up",
    ("lock", "no_time_limit", "kills"): "hang",
    ("lock", "steal_from_living", "kills"): "two living owners",
    ("lock", "seize_by_store", "kills"): "two living owners",
    ("lock", "no_recovery", "kills"): "half changed",
    ("lock", "row_in_lock_word", "kills"): "two living owners",
    ("lock", "no_fold", "kills"): "hang",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled model."""
    program = tmp_path_factory.mktemp("model_protocol") / "model"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    subprocess.run([compiler[0], *flags, "-o", str(program), *sources], check=True, timeout=120)
    return program


def explore(model: Path, scenario: str, run: str, sabotage: str) -> tuple[dict[str, Any], str]:
    """The result of one run and, of a violation, the trace."""
    done = subprocess.run(
        [str(model), scenario, run, sabotage],
        capture_output=True,
        text=True,
        check=True,
        timeout=1500,
    )
    print(done.stdout, end="")
    result: dict[str, Any] = json.loads(done.stdout)
    return result, done.stderr


@pytest.mark.timeout(1600)
@pytest.mark.parametrize(("scenario", "run"), sorted(HOLDS | (HOLDS_FULL if FULL else set())))
def test_protocol_holds_in_every_state(model: Path, scenario: str, run: str) -> None:
    result, trace = explore(model, scenario, run, "none")
    assert result["violation"] is None, trace
    assert result["complete"], result


@pytest.mark.parametrize(("scenario", "sabotage", "run"), sorted(SABOTAGES))
def test_sabotage_is_found(model: Path, scenario: str, sabotage: str, run: str) -> None:
    result, trace = explore(model, scenario, run, sabotage)
    assert SABOTAGES[scenario, sabotage, run] in str(result["violation"]), result
    assert "!!" in trace


def test_tables_name_everything(model: Path) -> None:
    listed = subprocess.run([str(model), "list"], capture_output=True, text=True, check=True)
    runs: set[tuple[str, str]] = set()
    sabotages: set[tuple[str, str]] = set()
    scenario = ""
    for line in listed.stdout.splitlines():
        kind, _, names = line.partition(":")
        if kind == "runs":
            runs |= {(scenario, name) for name in names.split()}
        elif kind == "sabotages":
            sabotages |= {(scenario, name) for name in names.split() if name != "none"}
        else:
            scenario = kind
    assert runs == HOLDS | HOLDS_FULL
    assert sabotages == {(scenario, sabotage) for scenario, sabotage, _ in SABOTAGES}
