"""Whether a delivery went as expected: its end, and the bytes on both sides."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from deliv.client.show import units
from deliv.model.states import Status
from deliv_testbed.demo.delivery import Delivery

CHUNK = 2**20


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`lines` for people; the first one names the product and how it ended."""

    correct: bool
    lines: tuple[str, ...]


def judge(delivery: Delivery) -> Verdict:
    """Read the files of both sides, or, of a product that has to fail, the reason it was given."""
    if not delivery.ended:
        lines = f"{delivery.product_id}: still {delivery.status}", f"job      {delivery.job_id}"
        return Verdict(correct=False, lines=lines)
    judged = _judge_failure if delivery.must_fail else _judge_success
    return judged(delivery)


def adler32(file: Path) -> str:
    """The ADLER32 of a file: eight hexadecimal digits."""
    value = zlib.adler32(b"")
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            value = zlib.adler32(chunk, value)
    return f"{value:08x}"


def _judge_failure(delivery: Delivery) -> Verdict:
    failed = delivery.status is Status.ERROR and bool(delivery.reason)
    remark = "as it has to be" if failed else "but it had to fail"
    return Verdict(
        correct=failed,
        lines=(
            f"{delivery.product_id}: {delivery.status}, {remark}",
            *_facts(delivery),
            f"reason   {delivery.reason} ({delivery.answer.get('error_class')})",
        ),
    )


def _judge_success(delivery: Delivery) -> Verdict:
    headline = f"{delivery.product_id}: {delivery.status} after {delivery.seconds():.1f} s"
    place = delivery.arrived
    if delivery.status is not Status.SUCCESS or not (delivery.source and place and place.exists()):
        reason = f"reason   {delivery.reason}"
        return Verdict(correct=False, lines=(headline, *_facts(delivery), reason))
    results = {
        name: _compare(delivery.source / name, place / name, size)
        for name, size in delivery.sizes.items()
    }
    equal = sum(is_equal for is_equal, _ in results.values())
    there = delivery.arrived_bytes
    size = f"{there} bytes ({units(there)})"
    if not delivery.is_directory:
        facts = (f"size     {size}", *(line for _, line in results.values()), f"file     {place}")
        return Verdict(correct=equal == 1, lines=(headline, *_facts(delivery), *facts))
    found = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()}
    unexpected = sorted(found - delivery.sizes.keys())
    counts = [delivery.answer.get(name) for name in ("files_done", "files_total")]
    files = len(delivery.sizes)
    return Verdict(
        correct=equal == files and not unexpected and counts == [files, files],
        lines=(
            headline,
            *_facts(delivery),
            "counted  {} of {} files, as deliv says".format(*counts),
            f"files    {equal} of {files} are equal, {size}",
            *(f"{line}  {name}" for name, (_, line) in results.items()),
            *(f"UNEXPECTED  {name}" for name in unexpected),
            f"below    {place}",
        ),
    )


def _compare(source: Path, copy: Path, size: int) -> tuple[bool, str]:
    """Whether they are equal, and as large as they have to be; the same for people."""
    there = adler32(source)
    if not copy.is_file():
        return False, f"ADLER32  archive {there}: MISSING at the destination"
    here = adler32(copy)
    equal = there == here and copy.stat().st_size == size
    remark = "equal" if equal else "DIFFERENT"
    return equal, f"ADLER32  archive {there}, destination {here}: {remark}"


def _facts(delivery: Delivery) -> tuple[str, ...]:
    times = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in delivery.stages())
    return (f"job      {delivery.job_id}", f"times    {times}")
