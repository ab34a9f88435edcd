"""What deliv's processes use while they are troubled: memory and file descriptors."""

from __future__ import annotations

import os
import statistics
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from support.running_stack import Stack

EVERY = 5.0  # seconds
FLAT = 1.5  # the last third may use so many times what the second one used
ENOUGH = 60  # samples; in fewer a process that starts again counts for too much


@dataclass(frozen=True, kw_only=True)
class Sample:
    memory: int  # resident, bytes
    descriptors: int


class Watch:
    def __init__(self, stack: Stack, instances: list[str]) -> None:
        self._stack, self._instances = stack, instances
        self._over = threading.Event()
        self._samples: dict[str, list[Sample]] = defaultdict(list)

    def run(self) -> None:
        while not self._over.wait(EVERY):
            pids = self._stack.testbed["pids"]
            for name in self._instances:
                if sample := look(pids.get(name)):
                    self._samples[name].append(sample)

    def stop(self) -> None:
        self._over.set()

    def growth(self) -> list[str]:
        """What grew from the second third to the last, in words."""
        found = []
        for name, samples in self._samples.items():
            if len(samples) < ENOUGH:
                continue
            third = len(samples) // 3
            for what in ("memory", "descriptors"):
                values = [getattr(sample, what) for sample in samples]
                before = statistics.median(values[third : 2 * third] or values)
                after = statistics.median(values[2 * third :])
                if after > FLAT * before:
                    found.append(f"{name}: {what} grew from {before:.0f} to {after:.0f}")
        return found

    def summary(self) -> str:
        peaks = {
            name: max(sample.memory for sample in samples) >> 20
            for name, samples in self._samples.items()
        }
        return ", ".join(f"{name} at most {peak} MiB" for name, peak in sorted(peaks.items()))


def look(pid: int | None) -> Sample | None:
    """None when the process is gone."""
    process = Path(f"/proc/{pid}")
    try:
        pages = int((process / "statm").read_text().split()[1])
        descriptors = len(list((process / "fd").iterdir()))
    except OSError:
        return None
    return Sample(memory=pages * os.sysconf("SC_PAGE_SIZE"), descriptors=descriptors)
