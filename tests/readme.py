"""The part of README.md that is made from tables of the code: options of `open` and variables.

    python -m tests.readme    # write it anew, after a change of shmkv/config.py

Owns: how a row of `config.OPTIONS` looks in the README, and where. `tests/unit/test_environment.py`
holds the two equal. Does not: touch anything outside the two marks.
"""

from __future__ import annotations

from pathlib import Path

from shmkv.config import OPTIONS, Option

README = Path(__file__).parents[1] / "README.md"
BEGIN = "<!-- made by python -m tests.readme from shmkv/config.py -->\n"
END = "<!-- end -->\n"


def _row(option: Option) -> str:
    variable = f"`{option.variable}`: {option.texts}" if option.variable else ""
    cells = (f"`{option.name}`", option.shown, option.help, variable)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def section() -> str:
    """The table, as it stands in the README."""
    head = "| option | default | meaning | environment |\n|---|---|---|---|\n"
    return head + "".join(map(_row, OPTIONS))


def made(text: str) -> str:
    """The README with its table made anew."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + section() + END + after


if __name__ == "__main__":
    README.write_text(made(README.read_text()))
