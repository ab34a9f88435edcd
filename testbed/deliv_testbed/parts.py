"""Every part of the stack as what it needs and the programs that run it."""

from __future__ import annotations

import http.client
import json
from functools import cached_property
from typing import Any

from deliv_testbed import gridftp, interpreter, layout, ports
from deliv_testbed.accounts import Account
from deliv_testbed.errors import TestbedError
from deliv_testbed.layout import Instance, Layout, Plan
from deliv_testbed.mariadb import Database
from deliv_testbed.processes import Program
from deliv_testbed.rabbitmq import Broker


class Parts:
    def __init__(self, where: Layout, plan: Plan, account: Account) -> None:
        self.layout, self.plan, self.account = where, plan, account
        self.database = Database(
            directory=where.directory / "mariadb", secrets=where.secrets, port=plan.ports["mariadb"]
        )
        self.broker = Broker(
            directory=where.directory / "rabbitmq",
            secrets=where.secrets,
            port=plan.ports["rabbitmq"],
            distribution_port=plan.ports["rabbitmq-distribution"],
            epmd_port=plan.ports["epmd"],
        )
        self.archive = self._gridftp("archive")
        self.destination = self._gridftp("destination")

    @property
    def names(self) -> tuple[str, ...]:
        """Every part, whether it is to run or was left out."""
        return self.plan.request.parts

    def wanted(self, part: str) -> bool:
        """Whether `up` starts the part."""
        request = self.plan.request
        left_out = {part, part.partition("@")[0]} & set(request.without)
        return not left_out and not (part == "fts" and request.fts_url)

    def check(self, part: str) -> None:
        """TestbedError when there is no such part."""
        if part not in self.names:
            raise TestbedError(f"there is no part {part!r}; there are {', '.join(self.names)}")

    def programs(self, part: str) -> tuple[Program, ...]:
        """The processes of a part in the order of their start; the last one is the part itself."""
        *helpers, program = self._programs(part)
        if part in self.plan.request.clocks:
            program = self.layout.clock(part).of(program)
        return (*helpers, program)

    def _programs(self, part: str) -> tuple[Program, ...]:
        self.check(part)
        if part in self.plan.request.dummies:
            return (self._dummy(part),)
        match part:
            case "mariadb":
                return (self.database.program(),)
            case "rabbitmq":
                return self.broker.programs()
            case "gridftp-archive":
                return (self.archive.program(),)
            case "gridftp-destination":
                return (self.destination.program(),)
        number = int(part.partition("@")[2])
        instance = self.plan.instances[number - 1]
        command = self.python.module("deliv.cli", "serve", "--config", self.layout.config(number))
        deliv = Program(
            name=part,
            command=command,
            environment=self.python.environment,
            directory=self.layout.directory,
            ready=lambda: health(instance, "/live") is not None,
        )
        return (deliv,)

    @cached_property
    def python(self) -> interpreter.Interpreter:
        return interpreter.find(self.account)

    def _gridftp(self, name: str) -> gridftp.Server:
        first = self.plan.data_ports[name]
        return gridftp.Server(
            name=f"gridftp-{name}",
            directory=self.layout.directory / f"gridftp-{name}",
            root=self.layout.directory / name,
            ca_directory=self.layout.ca_directory,
            port=self.plan.ports[f"gridftp-{name}"],
            data_ports=range(first, first + layout.DATA_PORTS),
        )

    def _dummy(self, name: str) -> Program:
        module = f"deliv_testbed.{name.partition('@')[0]}"
        return Program(
            name=name,
            command=self.python.module(module, "--config", self.layout.settings(name)),
            environment=self.python.environment,
            directory=self.layout.directory / name,
            ready=lambda: ports.accepts(self.plan.ports[name]),
        )


def health(instance: Instance, path: str) -> dict[str, Any] | None:
    """An instance's answer at /live or /ready; None when there is none."""
    connection = http.client.HTTPConnection(ports.LOOPBACK, instance.monitoring, timeout=2)
    try:
        connection.request("GET", path)
        report: dict[str, Any] = json.loads(connection.getresponse().read())
        return report
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
