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

BASIC = (
    *("mariadb", "rabbitmq", "gridftp-archive", "gridftp-destination"),
    *("issuer", "stager", "fts"),
)
DELIV = "deliv"


def more_fts(servers: int) -> tuple[str, ...]:
    """The FTS servers beside the first."""
    return tuple(f"fts@{number}" for number in range(2, servers + 1))


class Parts:
    def __init__(self, where: Layout, plan: Plan, account: Account) -> None:
        self._layout, self._plan, self._account = where, plan, account
        directory = where.directory
        self.database = Database(
            directory=directory / "mariadb", secrets=where.secrets, port=plan.mariadb
        )
        port, distribution_port, epmd_port = plan.rabbitmq
        self.broker = Broker(
            directory=directory / "rabbitmq",
            secrets=where.secrets,
            port=port,
            distribution_port=distribution_port,
            epmd_port=epmd_port,
        )
        self.archive = self._gridftp("archive", plan.gridftp_archive, plan.archive_data)
        self.destination = self._gridftp(
            "destination", plan.gridftp_destination, plan.destination_data
        )

    @property
    def instances(self) -> tuple[str, ...]:
        return tuple(f"{DELIV}@{number}" for number in range(1, len(self._plan.instances) + 1))

    @property
    def names(self) -> tuple[str, ...]:
        """Every part, whether it is to run or was left out."""
        return (*BASIC, *more_fts(len(self._plan.fts)), *self.instances)

    def wanted(self, part: str) -> bool:
        """Whether `up` starts the part."""
        left_out = {part, part.partition("@")[0]} & set(self._plan.request.without)
        return not left_out and not (part == "fts" and self._plan.request.fts_url)

    def check(self, part: str) -> None:
        if part not in self.names:
            raise TestbedError(f"there is no part {part!r}; there are {', '.join(self.names)}")

    def programs(self, part: str) -> tuple[Program, ...]:
        """The processes of a part in the order of their start; the last one is the part itself."""
        self.check(part)
        match part.partition("@"):
            case ("mariadb", _, _):
                return (self.database.program(),)
            case ("rabbitmq", _, _):
                return self.broker.programs()
            case ("gridftp-archive", _, _):
                return (self.archive.program(),)
            case ("gridftp-destination", _, _):
                return (self.destination.program(),)
            case ("fts", _, number):
                return (self._dummy("fts", part, self._plan.fts[int(number or 1) - 1]),)
            case ("stager", _, _):
                return (self._dummy(part, part, self._plan.stager),)
            case ("issuer", _, _):
                return (self._dummy(part, part, self._plan.issuer),)
            case (_, _, number):
                return (self._deliv(int(number)),)

    @cached_property
    def python(self) -> interpreter.Interpreter:
        return interpreter.find(self._account)

    def _gridftp(self, name: str, port: int, data: int) -> gridftp.Server:
        return gridftp.Server(
            name=f"gridftp-{name}",
            directory=self._layout.directory / f"gridftp-{name}",
            root=self._layout.directory / name,
            ca_directory=self._layout.ca_directory,
            port=port,
            data_ports=range(data, data + layout.DATA_PORTS),
        )

    def _dummy(self, kind: str, name: str, port: int) -> Program:
        settings = self._layout.settings(name)
        return Program(
            name=name,
            command=self.python.module(f"deliv_testbed.{kind}", "--config", settings),
            environment=self.python.environment,
            directory=self._layout.directory / name,
            ready=lambda: ports.accepts(port),
        )

    def _deliv(self, number: int) -> Program:
        instance = self._plan.instances[number - 1]
        configuration = self._layout.config(number)
        return Program(
            name=f"{DELIV}@{number}",
            command=self.python.module("deliv.cli", "serve", "--config", configuration),
            environment=self.python.environment,
            directory=self._layout.directory,
            ready=lambda: health(instance, "/live") is not None,
        )


def health(instance: Instance, path: str) -> dict[str, Any] | None:
    """What an instance says of itself at /live or /ready; None when it doesn't answer."""
    connection = http.client.HTTPConnection(ports.LOOPBACK, instance.monitoring, timeout=2)
    try:
        connection.request("GET", path)
        report: dict[str, Any] = json.loads(connection.getresponse().read())
        return report
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
