"""The whole local stack, brought up, disturbed and taken down.

MariaDB, RabbitMQ, the products and everything that needs certificates are made and started side
by side. deliv would wait for each of them by itself, but looks only now and then: it comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from pathlib import Path

from deliv_testbed import description, gridftp, parts, products, secrets, services
from deliv_testbed.accounts import Account
from deliv_testbed.errors import TestbedError
from deliv_testbed.identities import Identities
from deliv_testbed.layout import DELIV, Instance, Layout, Plan
from deliv_testbed.parts import Parts
from deliv_testbed.processes import Processes, wait
from deliv_testbed.rabbitmq import EPMD

READY_DEADLINE = 180.0  # a busy machine takes its time


class Stack:
    def __init__(self, where: Layout, plan: Plan, account: Account) -> None:
        self.layout, self.plan, self.account = where, plan, account
        self.processes = Processes(where.directory, account)
        self.identities = Identities(where)
        self.parts = Parts(where, plan, account)

    def up(self) -> None:
        """Make everything and start the wanted parts; returns when they are ready."""
        instances = [part for part in self.plan.request.deliv if self.parts.wanted(part)]
        for part in self.plan.request.clocks:
            self.layout.clock(part).step(0)
        with ThreadPoolExecutor() as pool:
            try:
                slow = [pool.submit(self._up_broker), pool.submit(self._make_products)]
                _results([pool.submit(self._up_database), pool.submit(self._up_grid)])
                self._migrate()
                _results(slow)
                _side_by_side(self._start, instances)
            except BaseException:
                self.processes.abandon()
                raise
        for part, instance in zip(self.plan.request.deliv, self.plan.instances, strict=True):
            if part in instances and not wait(
                lambda: not self._missing(instance),  # noqa: B023  runs now
                READY_DEADLINE,
            ):
                raise TestbedError(f"{part} waits for {self._missing(instance)}; see its log")
        self.describe()

    def start(self, part: str) -> None:
        """Start a part that was left out, killed or has crashed."""
        self.parts.check(part)
        self._start(part)
        if part == "mariadb":
            self._migrate()
        self.describe()

    def kill(self, part: str) -> None:
        """End a part at once, as a crash would."""
        self.parts.check(part)
        self.processes.kill(part)
        self.describe()

    def freeze(self, part: str) -> None:
        self.parts.check(part)
        self.processes.freeze(part)

    def thaw(self, part: str) -> None:
        self.parts.check(part)
        self.processes.thaw(part)

    def describe(self) -> None:
        """Write testbed.json with the processes that run now."""
        description.write_description(self.parts, self.identities, self.pids())

    def pids(self) -> dict[str, int]:
        found = {part: self.processes.pid(part) for part in self.parts.names}
        return {part: pid for part, pid in found.items() if pid}

    def _up_database(self) -> None:
        self.parts.database.install(self.processes, self.account)
        self._start_wanted("mariadb")

    def _up_broker(self) -> None:
        self.parts.broker.install(self.account)
        self._start_wanted("rabbitmq")

    def _make_products(self) -> None:
        products.install(self.parts.archive.root)
        self.account.own(self.parts.archive.root)

    def _up_grid(self) -> None:
        """What needs certificates: both GridFTP servers, the dummies, all configurations."""
        more = Path(self.plan.request.fts_ca) if self.plan.request.fts_ca else None
        authority = self.identities.create(self.account, more)
        allowed = gridftp.grid_map(self.identities.gridftp_users(), self.account)
        archive, destination = self.parts.archive, self.parts.destination
        for server in (archive, destination):
            server.install(authority, allowed, self.account)
        services.write_policy(self.layout, self.identities)
        secrets.write_key(self.layout.delegation_key, self.account)
        services.write_deliv(self.parts)
        dummies = self.plan.request.dummies
        for name in dummies:
            services.write_dummy(name, self.parts, self.identities)
        _side_by_side(self._start_wanted, (archive.name, destination.name, *dummies))

    def _start_wanted(self, part: str) -> None:
        if self.parts.wanted(part):
            self._start(part)

    def _start(self, part: str) -> None:
        *helpers, program = self.parts.programs(part)
        for helper in helpers:
            if not self.processes.alive(helper.name):
                self.processes.start(helper)
        self.processes.start(program)

    def _migrate(self) -> None:
        if self.processes.state("mariadb") != "running":
            return
        python = self.parts.python
        command = python.module("deliv.cli", "migrate", "--config", self.layout.config(1))
        self.processes.run(command, python.environment)

    def _missing(self, instance: Instance) -> list[str]:
        """What an instance waits for, as it says itself, of the parts that `up` starts."""
        report = parts.health(instance, "/ready")
        if report is None:
            return ["its own start"]
        return [
            name for name in report["waiting_for"] if self.parts.wanted(name.rpartition(":")[2])
        ]


def stop_all(processes: Processes) -> list[str]:
    """Stop whatever runs, deliv first and RabbitMQ's epmd last; the names."""
    names = processes.names()
    deliv = [name for name in names if name.partition("@")[0] == DELIV]
    last = [name for name in names if name == EPMD]
    others = [name for name in names if name not in (*deliv, *last)]
    for group in (deliv, others, last):
        _side_by_side(processes.stop, group)
    return names


def _side_by_side(action: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor() as pool:
        _results([pool.submit(action, name) for name in names])


def _results(futures: Sequence[Future[None]]) -> None:
    """Wait for all, or for the first that fails: its error is raised."""
    wait_for_futures(futures, return_when=FIRST_EXCEPTION)
    for future in futures:
        if future.done():
            future.result()
