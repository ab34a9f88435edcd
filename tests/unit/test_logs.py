"""Text logs go to terminals: nothing in them steers one, or begins a line of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import logging
import structlog
from deliv import config
from deliv.ops import logs
logs.configure(config.Log(format="text"))
nasty = {nasty!r}
log = structlog.get_logger()
log.info("told " + nasty, path="/x" + nasty, words=[nasty])
logging.getLogger("other").warning("%s", nasty)
try:
    raise ValueError(nasty)
except ValueError:
    log.exception("failed")
"""
STEERING = [
    "\x9b31m",
    "\x1b[2J",
    "\r",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\x00",
    "\x7f",
]


@pytest.mark.parametrize("nasty", STEERING)
def test_what_steers_a_terminal_is_escaped(nasty: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(nasty=nasty)],
        capture_output=True,
        check=True,
        timeout=60,
        env={"PYTHONIOENCODING": "utf-8"},
    )
    text = done.stderr.decode("utf-8")
    assert all(character.isprintable() or character == "\n" for character in text)
    assert text.count(ascii(nasty)[1:-1]) >= 5


def test_a_line_end_begins_no_line() -> None:
    script = SCRIPT.format(nasty="\nforged")
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    lines = done.stderr.decode().splitlines()
    assert not [line for line in lines if line.startswith("forged")]
    assert [line for line in lines if line.startswith("    forged")]  # in the traceback


CURL = """
import logging
from deliv import config
from deliv.ops import logs
logs.configure(config.Log(level="debug"))
raise SystemExit(logging.getLogger("tornado.curl_httpclient").isEnabledFor(logging.DEBUG))
"""


def test_at_debug_curl_does_not_write_down_what_it_sends() -> None:
    """Tornado has it do so where this logger is on: bodies too, with one-time codes in them."""
    subprocess.run([sys.executable, "-c", CURL], check=True, timeout=60)
