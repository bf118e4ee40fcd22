"""The exception classes: their family tree, their texts, and that they survive a pickle.

The hierarchy is part of the contract: callers write `except FileNotFoundError` or
`except shmkv.Error` and rely on it. When an error is raised belongs to the other unit tests.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

import shmkv

FAMILY = {
    "NotFound": FileNotFoundError,
    "Exists": FileExistsError,
    "Denied": PermissionError,
    "NoSpace": OSError,
    "Mismatch": Exception,
    "Corrupt": Exception,
    "Closed": ValueError,
    "ReadOnly": Exception,
    "TooLarge": ValueError,
    "Full": Exception,
    "Busy": TimeoutError,
    "CodecError": ValueError,
    "PersistError": OSError,
}
BUILTIN_BASES = (OSError, ValueError, TypeError, KeyError, LookupError, RuntimeError)


@pytest.fixture(params=sorted(FAMILY))
def error_class(request: pytest.FixtureRequest) -> type[Exception]:
    found = getattr(shmkv, request.param)
    assert isinstance(found, type)
    assert issubclass(found, Exception)
    return found


def test_every_class_is_a_shmkv_error(error_class: type[Exception]) -> None:
    assert issubclass(error_class, shmkv.Error)


def test_builtin_base(error_class: type[Exception]) -> None:
    assert issubclass(error_class, FAMILY[error_class.__name__])


def test_classes_without_a_builtin_base_have_none(error_class: type[Exception]) -> None:
    if FAMILY[error_class.__name__] is Exception:
        assert not issubclass(error_class, BUILTIN_BASES)


def test_error_itself_is_a_plain_exception() -> None:
    assert shmkv.Error.__bases__ == (Exception,)


def test_classes_are_apart() -> None:
    classes = [getattr(shmkv, name) for name in FAMILY]
    for one in classes:
        for other in classes:
            assert one is other or not issubclass(one, other)


def test_classes_call_the_package_their_home(error_class: type[Exception]) -> None:
    assert error_class.__module__ in {"shmkv", "shmkv.errors"}


def test_classes_are_documented(error_class: type[Exception]) -> None:
    assert (error_class.__doc__ or "").strip()
    assert "__doc__" in vars(error_class)
    assert vars(error_class)["__doc__"]


def test_text_stays(error_class: type[Exception]) -> None:
    assert str(error_class("store 'web' says no")) == "store 'web' says no"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_cross_process_borders(error_class: type[Exception], protocol: int) -> None:
    first = error_class("store 'web' says no")
    again = pickle.loads(pickle.dumps(first, protocol))
    assert type(again) is error_class
    assert again.args == first.args
    assert str(again) == str(first)


def test_errors_can_be_copied(error_class: type[Exception]) -> None:
    first = error_class("store 'web' says no")
    assert str(copy.copy(first)) == str(first)


def test_public_names_are_sorted_and_complete() -> None:
    assert list(shmkv.__all__) == sorted(shmkv.__all__)
    assert len(set(shmkv.__all__)) == len(shmkv.__all__)
    needed = {*FAMILY, "Error", "MISSING", "Store", "Stats", "Report", "Info"}
    needed |= {"open", "unlink", "names"}
    assert needed <= set(shmkv.__all__)
    assert all(hasattr(shmkv, name) for name in shmkv.__all__)


def test_missing_is_falsy_and_prints_its_name() -> None:
    assert not shmkv.MISSING
    assert "MISSING" in repr(shmkv.MISSING)


def test_missing_is_one_object() -> None:
    assert copy.copy(shmkv.MISSING) is shmkv.MISSING
    assert copy.deepcopy(shmkv.MISSING) is shmkv.MISSING
    assert pickle.loads(pickle.dumps(shmkv.MISSING)) is shmkv.MISSING


def test_not_found_names_the_store(new_name: Callable[[], str]) -> None:
    name = new_name()
    with pytest.raises(shmkv.NotFound, match=name):
        shmkv.open(name, create=False)


def test_raised_errors_cross_process_borders(new_name: Callable[[], str]) -> None:
    with pytest.raises(shmkv.NotFound) as caught:
        shmkv.open(new_name(), create=False)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is shmkv.NotFound
    assert str(again) == str(caught.value)
