"""Bring a stack up, take it down, and lock it for one command."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from deliv_testbed import accounts, interpreter, layout
from deliv_testbed.accounts import Account
from deliv_testbed.errors import TestbedError
from deliv_testbed.layout import DELIV, Layout, Request
from deliv_testbed.processes import Processes
from deliv_testbed.stack import Stack, stop_all


def up(where: Layout, request: Request) -> bool:
    """Bring a stack up, after cleaning up what a crashed run left; False when it is up already.

    TestbedError says what is wrong, and nothing stays running then.
    """
    _check(request)
    where.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    account = _account(where)
    with _locked(where):
        if _is_up(where, request, account):
            return False
        _clean(where, account)
        plan = layout.choose(request)
        layout.save(where, plan)
        stack = Stack(where, plan, account)
        try:
            stack.up()
        except BaseException:
            stop_all(stack.processes)
            raise
    return True


def down(where: Layout) -> list[str]:
    """Stop everything that runs in this directory; the parts that did. Data and logs stay."""
    if not where.plan.exists():
        return []
    with _locked(where):
        account = _account(where)
        stopped = stop_all(Processes(where.directory, account))
        plan = layout.load(where)
        if plan and where.description.exists():
            Stack(where, plan, account).describe()
    return stopped


@contextmanager
def stack(where: Layout) -> Iterator[Stack]:
    """The stack that was brought up in this directory, for one command at a time."""
    plan = layout.load(where)
    if not plan or not where.description.exists():
        raise TestbedError(f"no stack was brought up in {where.directory}")
    with _locked(where):
        yield Stack(where, plan, _account(where))


@cache
def _account(where: Layout) -> Account:
    """Who the stack runs as: a user that reaches the stack's directory and a Python.

    Each question to the system is a process: a program that disturbs a stack often asks once.
    """
    account = accounts.unprivileged()
    return account.reaching(where.directory, *interpreter.directories(account))


@contextmanager
def _locked(where: Layout) -> Iterator[None]:
    descriptor = os.open(where.directory, os.O_RDONLY)
    try:
        _lock(descriptor, where.directory)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TestbedError(f"another command is at work in {directory}") from None


def _check(request: Request) -> None:
    known = (*request.parts, DELIV)
    for part in request.without:
        if part not in known:
            raise TestbedError(f"there is no part {part!r} to leave out; there are {known}")
    if request.fts_url and not request.fts_url.startswith("https://"):
        raise TestbedError(f"FTS3 is reached by https, not by {request.fts_url}")
    if request.fts_ca and not Path(request.fts_ca).is_dir():
        raise TestbedError(f"{request.fts_ca} is no directory of CA certificates")


def _is_up(where: Layout, request: Request, account: Account) -> bool:
    """Whether this very stack runs whole; TestbedError when another one does."""
    plan = layout.load(where)
    if not plan or not where.description.exists():
        return False
    found = Stack(where, plan, account)
    wanted = filter(found.parts.wanted, found.parts.names)
    if not all(map(found.processes.alive, wanted)):
        return False
    if plan.request != request:
        raise TestbedError(f"another stack is up in {where.directory}: take it down first")
    return True


def _clean(where: Layout, account: Account) -> None:
    """Stop and remove what an earlier run left, but for its CA.

    A directory that isn't a testbed's is refused.
    """
    if not any(where.directory.iterdir()):
        return
    if not where.plan.exists():
        raise TestbedError(f"{where.directory} holds something else than a testbed")
    stop_all(Processes(where.directory, account))
    for path in where.directory.iterdir():
        if path in (where.plan, where.authority):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
