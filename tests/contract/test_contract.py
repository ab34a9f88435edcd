"""Requests made from the description: no 5xx, and no answer that it does not describe.

make contract    more than 10,000 of them
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.posing import STAGER, Caller
from support.running_stack import Stack

SETTINGS = Path(__file__).with_name("schemathesis.toml")
# Of each call and of sequences of calls, beside the boundary cases.
EXAMPLES = os.environ.get("CONTRACT_EXAMPLES", "5")
SEED = os.environ.get("CONTRACT_SEED", "1")
LEAST = int(os.environ.get("CONTRACT_LEAST", "500"))  # requests in all
LONGEST = 3600  # seconds
# What the narrowed description does not have may be good input all the same.
NARROW = ("--exclude-checks", "negative_data_rejection")
CALLS = {  # who makes which calls, by which description
    ("alice", "wide"): (),
    ("alice", "narrow"): NARROW,
    ("operator", "narrow"): ("--include-tag", "transfers", *NARROW),
    ("stager", "wide"): ("--include-tag", "stager", "--phases", "examples,coverage,fuzzing"),
}


@pytest.mark.timeout(LONGEST + 60)
@pytest.mark.parametrize(("user", "description"), CALLS)
def test_every_answer_is_described(
    stack: Stack, described: dict[str, Path], tmp_path: Path, user: str, description: str
) -> None:
    done = subprocess.run(
        [
            *command(stack, user),
            str(described[description]),
            *CALLS[user, description],
            *token(stack, user),
        ],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=LONGEST,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, "see the report above"


def test_there_were_many_and_of_all_kinds(stack: Stack) -> None:
    answers = stack.answers()
    print(f"{answers.total()} answers: ", dict(sorted(answers.items())))
    assert answers.total() >= LEAST
    assert not [status for status in answers if status >= 500]
    assert {200, 202, 400, 403, 404, 405, 409} <= set(answers)


def command(stack: Stack, user: str) -> list[str]:
    """Without a database of earlier failures: every run with a seed is the same."""
    who = stack.user(user)
    return [
        *(sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(SETTINGS)),
        *("run", "--url", stack.url),
        *("--request-cert", who.cert, "--request-cert-key", who.key),
        *("--tls-verify", stack.testbed["ca_file"]),
        *("--max-examples", EXAMPLES, "--seed", SEED, "--generation-database", "none"),
        *("--continue-on-failure", "--warnings", "off"),
    ]


def token(stack: Stack, user: str) -> list[str]:
    """The stager's access token, bound to its certificate."""
    return ["--header", f"Authorization: Bearer {Caller(stack).token}"] if user == STAGER else []
