"""The soak: two instances under load and in trouble, and whether anything was lost.

make soak MINUTES=15
"""

from __future__ import annotations

import argparse
import sys

from support.running_stack import Stack, brought_up

from soak.load import Load
from soak.trouble import EVERY, Trouble
from soak.under_load import INSTANCES, beside, configure, wait_until_all_is_done
from soak.verdict import complaints
from soak.watch import Watch

AT_LEAST_EVERY = 10.0  # seconds from one fault to the next


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=5, help="jobs per second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with brought_up("--instances", "2") as stack:
        return soak(stack, options.minutes * 60, options.rate, options.seed)


def soak(stack: Stack, seconds: float, rate: float, seed: int) -> int:
    """Exit code 0 when nothing was lost, nothing done twice, and nothing grew."""
    load, trouble = Load(stack, configure(stack), rate, seed), Trouble(stack, seed)
    watch = Watch(stack, list(INSTANCES))
    with beside(watch.run, watch.stop):
        with beside(trouble.run, trouble.stop):
            load.run(seconds)
        wait_until_all_is_done(stack)
    found = [*load.refused, *trouble.mishaps, *complaints(stack, load.accepted), *watch.growth()]
    found += too_few(trouble, seconds)
    _print(load, trouble, watch, found, seconds)
    return 1 if found else 0


def too_few(trouble: Trouble, seconds: float) -> list[str]:
    """Without enough trouble nothing is proven."""
    faults, least = trouble.survived.total(), int(seconds / AT_LEAST_EVERY)
    return [f"only {faults} faults, not {least}"] if faults < least else []


def _print(load: Load, trouble: Trouble, watch: Watch, found: list[str], seconds: float) -> None:
    faults = trouble.survived.total()
    for text in found[:50]:
        print(f"  {text}")
    for fault, count in sorted(trouble.survived.items()):
        print(f"  {count:4} x {fault}")
    print(
        f"{faults} faults survived in {seconds:.0f} s (one every {EVERY:.0f} s was planned), "
        f"{len(load.accepted)} jobs held, {len(found)} complaints; {watch.summary()}"
    )


if __name__ == "__main__":
    sys.exit(main())
