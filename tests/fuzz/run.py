"""Every parser of what strangers send, fuzzed: a table of inputs and findings.

make fuzz INPUTS=1000000 SEED=1
"""

from __future__ import annotations

import argparse
import sys

from fuzz.engine import Result, run
from fuzz.targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when there is a finding."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same changes")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one")
    options = parser.parse_args(arguments)
    chosen = [TARGETS[name] for name in options.target or TARGETS]
    whole = sum(target.share for target in chosen)
    print(f"{'target':<16} {'inputs':>9} {'taken':>9} {'per s':>7} {'slowest':>10} {'findings':>8}")
    results = []
    for target in chosen:
        inputs = max(1, round(options.inputs * target.share / whole))
        results.append(run(target, inputs, options.seed))
        print(_row(results[-1]), flush=True)
    return _summed_up(results)


def _row(result: Result) -> str:
    rate = result.inputs / max(result.seconds, 1e-9)
    return (
        f"{result.name:<16} {result.inputs:>9,} {result.taken:>9,} {rate:>7,.0f} "
        f"{result.slowest * 1000:>7.1f} ms {len(result.findings):>8}"
    )


def _summed_up(results: list[Result]) -> int:
    findings = [finding for result in results for finding in result.findings]
    inputs, seconds = sum(one.inputs for one in results), sum(one.seconds for one in results)
    print(f"{inputs:,} inputs in {seconds:.0f} s of CPU time, {len(findings)} findings")
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
