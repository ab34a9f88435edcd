"""The cursor of /transferFiles is of one job and one state."""

from __future__ import annotations

import pytest

from deliv.errors import InvalidRequest
from deliv.http.handlers.files import cursor_behind, position
from deliv.http.types import read_file_cursor
from deliv.model.file import File, FileState

A, B = "0190a5b0-0000-7000-8000-00000000000a", "0190a5b0-0000-7000-8000-00000000000b"
FILE = File(
    number=7, name="a", size=1, checksum=None, state=FileState.FAILED, attempt=2, slice=0,
    error_class=None, reason=None, partial=False, copy_begun=False,
    copy_recorded=False, corrupt_source=False,
)  # fmt: skip


@pytest.mark.parametrize("state", [None, *FileState])
def test_the_next_page_begins_behind_the_last_file(state: FileState | None) -> None:
    cursor = read_file_cursor("cursor", cursor_behind(FILE, A, state))
    assert position(cursor, A, state) == (2, 7)
    assert position(None, A, state) == (0, 0)


def test_a_cursor_of_other_files_is_refused() -> None:
    """It would leave out some of those that are asked for."""
    cursor = cursor_behind(FILE, A, FileState.FAILED)
    for job_id, state in ((B, FileState.FAILED), (A, None), (A, FileState.WAITING)):
        with pytest.raises(InvalidRequest, match=r"another list: .* job_id and state"):
            position(cursor, job_id, state)


@pytest.mark.parametrize("text", ["", "2", "2-7-", "2-7-0123456", "2-7-0123456g", "2-7-01234567-1"])
def test_what_is_no_cursor(text: str) -> None:
    with pytest.raises(InvalidRequest, match="`next` of an earlier page"):
        read_file_cursor("cursor", text)
