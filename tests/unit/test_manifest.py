"""What a stager may name as the files of a product."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from support.combinations import Combination, job_of

from deliv.delivery.manifest import Manifest, check, directory
from deliv.errors import InvalidRequest
from deliv.model.file import ReportedFile
from deliv.model.job import Job, StageReport
from deliv.model.states import Status

JOB = job_of(Combination(Status.STAGING, frozenset({"time_staging"})))
USUAL: dict[str, Any] = {
    "job_id": JOB.job_id,
    "product_id": JOB.product_id,
    "authcode": "0123456789abcdef0123456789abcdef",
    "success": True,
    "staged_to": "archive.example.org",
    "path": "/staging/product",
    "msg": None,
}


def checked(*files: ReportedFile, **changes: Any) -> Manifest:
    return asyncio.run(check(StageReport(**{**USUAL, **changes}, files=files)))


def named(*names: str) -> tuple[ReportedFile, ...]:
    return tuple(ReportedFile(name=name) for name in names)


def delivered_to(manifest: Manifest, job: Job = JOB) -> str:
    return directory(job, USUAL["path"], manifest.count, manifest.longest)


def test_several_files_get_the_staged_directory_s_name() -> None:
    several = checked(*named("a", "deep/er/b", "deep/c", "Ünï cødé", "~home"))
    assert delivered_to(several) == f"{JOB.destination_path}/product"
    assert delivered_to(checked(*named("deep/a"))) == JOB.destination_path


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "files is empty"),
        ([""], "empty name"),
        (["/etc/passwd"], "'/etc/passwd' is absolute"),
        (["a", ".."], "'..' has an empty, . or .. part"),
        (["a/../b"], "'a/../b' has"),
        (["a/./b"], "'a/./b' has"),
        (["a//b"], "'a//b' has"),
        (["a/"], "'a/' has"),
        (["a\nb"], "control characters"),
        (["a\ud800b"], "control characters"),
        (["a", "b", "a"], "'a' comes twice"),
        (["\u00e9", "e\u0301"], "comes twice, or differs from another only by Unicode"),
        (["a/b", "a"], "'a' is that of a directory, too"),
        (["a", "a/b"], "'a' is a file, and a directory of 'a/b'"),
        (["a/b/c", "a/b"], "'a/b' is that of a directory"),
        (["x" * 1100], "longer URL at the archive"),
        (["0123456789abcdef0123456789abcdef"], "must not have the one-time code"),
    ],
)
def test_what_no_directory_can_have_is_refused_by_name(names: list[str], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(*named(*names))
    assert said in str(caught.value)


def test_what_is_too_long_at_a_destination_is_refused_there_by_name() -> None:
    """Another destination may have room for it."""
    longest = "x" * 1000
    manifest = checked(*named("a", longest))
    assert manifest.longest == longest
    assert delivered_to(manifest)
    deeper = replace(JOB, destination_path=f"{JOB.destination_path}/{'d' * 100}")
    with pytest.raises(InvalidRequest, match="longer URL at the destination"):
        delivered_to(manifest, deeper)


def test_together_they_have_a_number_of_bytes() -> None:
    half = 2**62
    with pytest.raises(InvalidRequest, match="more than 9223372036854775807 bytes together"):
        checked(ReportedFile(name="a", size=half), ReportedFile(name="b", size=half))


def test_the_same_report_has_the_same_digest_and_no_other_has() -> None:
    files = ReportedFile(name="a", size=1, checksum="ADLER32:00000001"), ReportedFile(name="b")
    usual = checked(*files).digest
    assert checked(*files).digest == usual
    others = [
        checked(*reversed(files)),
        checked(files[0]),
        checked(*files, path="/staging/other"),
        checked(*files, staged_to="other.example.org"),
        checked(*files, authcode="fedcba9876543210fedcba9876543210"),
        checked(files[0], ReportedFile(name="b", size=0)),
    ]
    assert usual not in {other.digest for other in others}
