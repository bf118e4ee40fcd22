"""What the C compiler makes of `layout.h`: sizes, offsets, codes, geometries, queues, hashes.

Owns: a small C program, compiled once against the core's headers, that prints what it is asked for.

Promises: the compiler that builds the extension is used; nothing is left behind, for the program
lives in a temporary folder of the test run.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

CSRC = Path(__file__).parents[2] / "shmkv" / "_csrc"
COMPILE_SECONDS = 60
RUN_SECONDS = 20

SOURCE = r"""
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hash.h"
#include "layout.h"
#include "lock_note.h"
#include "status.h"

static void geometry(char **v) {
    struct kv_config c = {.size = strtoull(v[0], NULL, 10), .max_size = strtoull(v[1], NULL, 10),
                          .appenders = (uint32_t)strtoul(v[2], NULL, 10),
                          .options = (uint32_t)strtoul(v[3], NULL, 10)};
    struct kv_geometry g;
    if (!kv_geometry_make(&c, &g)) {
        puts("refused");
        return;
    }
#define SHOW(field) printf(#field "=%" PRIu64 " ", (uint64_t)g.field);
    GEOMETRY
    printf("own=%u ", kv_appender_own(&g));
    for (unsigned i = 0; i < 4; i++) {
        uint64_t size = c.size + (c.max_size - c.size) / 3 * i;
        printf("within%u=%u ghost%u=%u ", i, kv_geometry_bases(&g, size), i,
               kv_geometry_ghost(&g, size));
    }
    puts("");
}

int main(int n, char **v) {
    if (n == 2 && strcmp(v[1], "layout") == 0) {
        LAYOUT
    } else if (n > 2 && strcmp(v[1], "hash") == 0) {
        for (int i = 3; i < n; i++)
            printf("%" PRIu64 "\n", kv_hash(v[i], strlen(v[i]), strtoull(v[2], NULL, 10)));
    } else if (n > 1 && strcmp(v[1], "queue") == 0) {
        for (int i = 2; i < n; i++)
            printf("%u\n", kv_queue_of(strtoull(v[i], NULL, 10)));
    } else {
        for (int i = 1; i + 3 < n; i += 4)
            geometry(v + i);
    }
    return 0;
}
"""


class Probe:
    """The compiled program."""

    def __init__(
        self, folder: Path, names: Iterable[str], codes: Iterable[str], geometry: Iterable[str]
    ) -> None:
        """`names`: "structure" or "structure.field"; `codes`: constants; `geometry`: fields."""
        lines = []
        for name in names:
            kind, _, field = name.partition(".")
            what = f"offsetof(struct {kind}, {field})" if field else f"sizeof(struct {kind})"
            lines.append(f'printf("{name} %zu\\n", {what});')
        lines += [f'printf("{code} %u\\n", (unsigned){code});' for code in codes]
        lines.append('printf("version %u\\n", KV_LAYOUT_VERSION);')
        lines.append('printf("fingerprint %u\\n", kv_fingerprint());')
        shows = " ".join(f"SHOW({field})" for field in geometry)
        source = folder / "probe.c"
        text = SOURCE.replace("LAYOUT", "\n        ".join(lines), 1).replace("GEOMETRY", shows, 1)
        source.write_text(text)
        self.program = folder / "probe"
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "gcc")
        command = [*compiler, "-std=c11", "-D_GNU_SOURCE", f"-I{CSRC}", "-o", str(self.program)]
        command += [str(source), str(CSRC / "layout.c")]
        subprocess.run(command, check=True, timeout=COMPILE_SECONDS)

    def _run(self, *arguments: str) -> list[str]:
        command = [str(self.program), *arguments]
        done = subprocess.run(
            command, check=True, timeout=RUN_SECONDS, stdout=subprocess.PIPE, text=True
        )
        return done.stdout.splitlines()

    def layout(self) -> dict[str, int]:
        """Sizes, offsets and constants by name, and "version" and "fingerprint"."""
        return {name: int(n) for name, n in (line.split() for line in self._run("layout"))}

    def geometries(
        self, configs: Sequence[tuple[int, int, int, int]]
    ) -> list[dict[str, int] | None]:
        """For (size, max_size, appenders, options): the geometry, None = refused.

        And "own", and "within0" to "within3" and "ghost0" to "ghost3" for sizes up to max_size.
        """
        lines = self._run(*(str(n) for config in configs for n in config))
        return [
            None
            if line == "refused"
            else {name: int(n) for name, n in (pair.split("=") for pair in line.split())}
            for line in lines
        ]

    def queues(self, sizes: Sequence[int]) -> list[int]:
        """The main queue for each size of an item."""
        return [int(line) for line in self._run("queue", *map(str, sizes))]

    def hashes(self, seed: int, keys: Sequence[str]) -> list[int]:
        """The core's hash of each key."""
        return [int(line) for line in self._run("hash", str(seed), *keys)]
