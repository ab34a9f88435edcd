"""The soak: two instances under load and in trouble, and whether anything was lost.

make soak MINUTES=15
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter

from support.running_stack import brought_up

from soak.faults import ALL_ALONG, CLOCKS, FAULTS, NEIGHBOURS, delegate, lasting
from soak.load import Load
from soak.pace import measure
from soak.site import Site
from soak.trouble import EVERY, Trouble
from soak.under_load import INSTANCES, beside, configure, wait_until_all_is_done
from soak.verdict import complaints
from soak.watch import Watch

AT_LEAST_EVERY = 15.0  # seconds from one fault to the next
STRETCH = 1 / 8  # of the time, for each of the two stretches that the pace is measured in


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=5, help="jobs per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--pace", action=argparse.BooleanOptionalAction, default=True,
        help="measure first what one neighbour's trouble costs the others",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    return 1 if soak(options.minutes * 60, options.rate, options.seed, options.pace) else 0


def soak(seconds: float, rate: float, seed: int, with_pace: bool) -> list[str]:
    """What was lost, done twice or grew, and where others were held up, in words."""
    with brought_up("--instances", "2", "--clocks", *CLOCKS) as stack:
        site = Site(stack, configure(stack))
        delegate(site)
        return trouble_for(site, seconds, rate, seed, with_pace)


def trouble_for(site: Site, seconds: float, rate: float, seed: int, with_pace: bool) -> list[str]:
    load, watch = Load(site, rate, seed), Watch(site.stack, list(INSTANCES))
    trouble, neighbours = Trouble(site, FAULTS, seed), Trouble(site, NEIGHBOURS, seed)
    found = []
    end = time.monotonic() + seconds
    with beside(watch.run, watch.stop):
        with beside(lambda: load.run(seconds), load.stop):
            if with_pace:
                pace = measure(site, neighbours, seconds * STRETCH)
                found += pace.complaints()
                print(pace)
            with lasting(site, ALL_ALONG), beside(trouble.run, trouble.stop):
                troubled = max(0.0, end - time.monotonic())
                threading.Event().wait(troubled)
        wait_until_all_is_done(site.stack)
    found += [*load.refused, *neighbours.mishaps, *trouble.mishaps]
    found += [*complaints(site.stack, site.accepted), *watch.growth()]
    found += too_few(trouble, troubled)
    _print(site, trouble.survived + neighbours.survived, found, seconds)
    print(watch.summary())
    return found


def too_few(trouble: Trouble, seconds: float) -> list[str]:
    """Without enough trouble nothing is proven."""
    faults, least = trouble.survived.total(), int(seconds / AT_LEAST_EVERY)
    return [f"only {faults} faults, not {least}"] if faults < least else []


def _print(site: Site, survived: Counter[str], found: list[str], seconds: float) -> None:
    for text in found[:50]:
        print(f"  {text}")
    for fault, count in sorted(survived.items()):
        print(f"  {count:4} x {fault}")
    print(
        f"{survived.total()} faults survived in {seconds:.0f} s (one every {EVERY:.0f} s was "
        f"planned), {len(site.accepted)} jobs held, {len(found)} complaints"
    )


if __name__ == "__main__":
    sys.exit(main())
