"""The stager's report of many files counts whole and once, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.samples import admitted

from deliv.errors import Forbidden, InvalidRequest
from deliv.model.file import ReportedFile
from integration.files_steps import (
    Opened,
    count,
    expecting,
    files,
    names,
    opened_fixture,  # noqa: F401 - fixtures are used by their names
    report,
    taken,
)


async def test_the_same_report_again_is_harmless_and_another_is_refused(opened: Opened) -> None:
    async with opened as here:
        job = await expecting(here, await admitted(here.store))
        once = await taken(here, job, report(job, names(3)))
        assert await taken(here, job, report(job, names(3))) == once
        assert await here.now(job) == once
        for other in (
            report(job, names(2)),
            report(job, names(3), path="/else"),
            report(job, None),
        ):
            with pytest.raises(Forbidden):
                await here.parts.staging.report(other)
        assert len(await files(here, once)) == 3


async def test_a_refused_report_leaves_nothing_and_the_code_stays_good(opened: Opened) -> None:
    async with opened as here:
        job = await expecting(here, await admitted(here.store))
        with pytest.raises(InvalidRequest, match=r"'a/\.\./b'"):
            await here.parts.staging.report(report(job, [*names(1200), "a/../b"]))
        assert "refused: the name 'a/../b'" in str((await here.now(job)).stager_status)
        assert await count(here, "job_files") == 0
        job = await taken(here, job, report(job, names(3)))
        assert job.files_total == 3


async def test_a_report_that_does_not_count_leaves_nothing(opened: Opened) -> None:
    """The list turns out to be unreadable when half of it is stored."""

    class Broken(list[ReportedFile]):
        rounds = 0

        def __iter__(self) -> Iterator[ReportedFile]:
            self.rounds += 1
            yield from super().__iter__()
            if self.rounds == 2:
                raise InvalidRequest("cut off")

    async with opened as here:
        job = await expecting(here, await admitted(here.store))
        broken = Broken(ReportedFile(name=name) for name in names(1000))
        with pytest.raises(InvalidRequest, match="cut off"):
            await here.parts.staging.report(report(job, broken))
        assert await count(here, "job_files") == 0
        assert (await here.now(job)).report is None
