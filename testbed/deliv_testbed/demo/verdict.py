"""Whether a delivery went as expected: its end, and the bytes on both sides."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from deliv.model.states import Status
from deliv_testbed.demo.delivery import Delivery, units

CHUNK = 2**20


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`lines` for people; the first one names the product and how it ended."""

    correct: bool
    lines: tuple[str, ...]


def judge(delivery: Delivery) -> Verdict:
    """Read both files, or, of a product that has to fail, the reason that was given."""
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
    file = delivery.arrived
    if delivery.status is not Status.SUCCESS or not (delivery.source and file and file.exists()):
        reason = f"reason   {delivery.reason}"
        return Verdict(correct=False, lines=(headline, *_facts(delivery), reason))
    there, here = adler32(delivery.source), adler32(file)
    size = file.stat().st_size
    equal = there == here and size == delivery.size
    return Verdict(
        correct=equal,
        lines=(
            headline,
            *_facts(delivery),
            f"size     {size} bytes ({units(size)})",
            f"ADLER32  archive {there}, destination {here}: {'equal' if equal else 'DIFFERENT'}",
            f"file     {file}",
        ),
    )


def _facts(delivery: Delivery) -> tuple[str, ...]:
    times = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in delivery.stages())
    return (f"job      {delivery.job_id}", f"times    {times}")
