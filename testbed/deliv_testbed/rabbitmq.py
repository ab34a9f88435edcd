"""A private RabbitMQ node with its own epmd, loopback only."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deliv_testbed import accounts, ports, processes, secrets
from deliv_testbed.processes import Program

NAME = "rabbitmq"
EPMD = "epmd"
# Debian's /usr/sbin/rabbitmq-server lets only root and rabbitmq through; this is behind it.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
AMQP_0_9_1 = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"


@dataclass(frozen=True, kw_only=True)
class Broker:
    """`port` speaks AMQP, `distribution_port` Erlang, `epmd_port` names the one by the other."""

    directory: Path
    secrets: Path
    port: int
    distribution_port: int
    epmd_port: int
    host: str = ports.LOOPBACK
    user: str = "deliv"

    @property
    def password_file(self) -> Path:
        return self.secrets / "broker"

    def password(self) -> str:
        return self.password_file.read_text(encoding="ascii")

    @property
    def url(self) -> str:
        """The AMQP URL of the default virtual host, password included."""
        return f"amqp://{self.user}:{self.password()}@{self.host}:{self.port}/%2F"

    def install(self, account: accounts.Account) -> None:
        """Write the node's configuration and cookie."""
        for directory in (self.directory, *(self.directory / name for name in DIRECTORIES)):
            directory.mkdir(parents=True, mode=0o700)
        secrets.write(self.password_file, account)
        secrets.write(self.directory / "home" / ".erlang.cookie", account)
        (self.directory / "home" / ".erlang.cookie").chmod(0o400)
        configuration = self.directory / "conf"
        text = (
            f"listeners.tcp.1 = {self.host}:{self.port}\n"
            f"default_user = {self.user}\n"
            f"default_pass = {self.password()}\n"
            "disk_free_limit.absolute = 50MB\n"
            "vm_memory_high_watermark.absolute = 512MB\n"
            "log.console = false\n"
        )
        (configuration / "rabbitmq.conf").write_text(text, encoding="ascii")
        (configuration / "rabbitmq.conf").chmod(0o600)
        (configuration / "enabled_plugins").write_text("[].\n", encoding="ascii")
        (configuration / "env.conf").touch()
        account.own(self.directory)

    def programs(self) -> tuple[Program, Program]:
        """epmd, then the node; epmd is ours to start, else Erlang would leave one behind."""
        epmd = Program(
            name=EPMD,
            command=("epmd", "-port", str(self.epmd_port), "-address", self.host),
            environment={},
            directory=self.directory,
            ready=lambda: ports.accepts(self.epmd_port),
        )
        node = Program(
            name=NAME,
            command=(SERVER,),
            environment=self._environment(),
            directory=self.directory,
            ready=self.answers,
            deadline=180,
        )
        return epmd, node

    def answers(self) -> bool:
        """Whether the node opens an AMQP connection."""
        return speaks_amqp(self.host, self.port)

    def _environment(self) -> dict[str, str | Path]:
        configuration = self.directory / "conf"
        return {
            "HOME": self.directory / "home",
            # Runs the virtual machine in place of the script, so that the part's pid is its.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-noinput -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "RABBITMQ_NODENAME": "deliv@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_BASE": self.directory,
            "RABBITMQ_MNESIA_BASE": self.directory / "mnesia",
            "RABBITMQ_LOG_BASE": self.directory / "log",
            "RABBITMQ_PID_FILE": self.directory / "pid",
            "RABBITMQ_CONFIG_FILE": configuration / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": configuration / "advanced.config",
            "RABBITMQ_CONF_ENV_FILE": configuration / "env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": configuration / "enabled_plugins",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": self.host,
            "ERL_CRASH_DUMP": self.directory / "log" / "erl_crash.dump",
        }


DIRECTORIES = ("home", "mnesia", "log", "conf")


def speaks_amqp(host: str, port: int) -> bool:
    """Whether a broker answers the protocol header with connection.start (AMQP 0-9-1, 2.2.4)."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(AMQP_0_9_1)
            return connection.recv(1) == METHOD_FRAME
    except OSError:
        return False


@contextmanager
def private() -> Iterator[Broker]:
    """A broker of its own in a temporary directory, for as long as the block runs."""
    with processes.private(NAME) as own:
        port, distribution_port, epmd_port = ports.choose(3)
        broker = Broker(
            directory=own.directory / NAME,
            secrets=own.directory / "secrets",
            port=port,
            distribution_port=distribution_port,
            epmd_port=epmd_port,
        )
        broker.install(own.account)
        for program in broker.programs():
            own.start(program)
        yield broker
