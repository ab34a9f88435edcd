"""What a testbed writes down: ports, plan, products, configurations."""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from deliv_testbed import (
    accounts,
    control,
    description,
    gridftp,
    interpreter,
    layout,
    pki,
    ports,
    products,
    secrets,
    services,
    synthetic,
)
from deliv_testbed.errors import TestbedError
from deliv_testbed.fts.settings import FtsSettings
from deliv_testbed.identities import Identities
from deliv_testbed.issuer.settings import IssuerSettings
from deliv_testbed.layout import Layout, Request
from deliv_testbed.parts import Parts
from deliv_testbed.settings import read
from deliv_testbed.stager.archive import Archive
from deliv_testbed.stager.settings import StagerSettings
from deliv_testbed.trees import tree_of

from deliv import config
from deliv.identity.policy import Policy
from deliv.identity.policy_rules import Action
from deliv.identity.sealing import KeySealer

CALLER = accounts.Account(
    name=pwd.getpwuid(os.geteuid()).pw_name, uid=os.geteuid(), gid=os.getegid()
)


def test_chosen_ports_are_free_and_differ() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        assert not ports.is_free(busy.getsockname()[1])
        assert ports.accepts(busy.getsockname()[1])
    chosen = ports.choose(20)
    assert len(set(chosen)) == 20
    assert all(map(ports.is_free, chosen))
    assert not any(map(ports.accepts, chosen))


def test_a_port_is_not_chosen_twice_though_nobody_listens_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many that by chance alone some would come twice."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    several = [port for _ in range(20) for port in ports.choose(50)]
    assert len(set(several)) == 1000
    monkeypatch.setattr(ports, "KEPT", 0)
    later = [port for _ in range(20) for port in ports.choose(50)]
    assert not set(several).isdisjoint(later)


def test_a_block_avoids_what_is_taken() -> None:
    first = ports.choose_block(1000)
    second = ports.choose_block(1000, taken=first)
    assert len(first) == len(second) == 1000
    assert set(first).isdisjoint(second)
    assert set(ports.choose(50, taken=first)).isdisjoint(first)


def test_no_room_for_the_ports() -> None:
    with pytest.raises(TestbedError, match="no 1 free ports"):
        ports.choose(1, taken=range(2**16))
    with pytest.raises(TestbedError, match="no block"):
        ports.choose_block(10, taken=range(2**16))


def test_a_plan_is_kept(tmp_path: Path) -> None:
    where = Layout(directory=tmp_path)
    assert layout.load(where) is None
    plan = layout.choose(Request(instances=3, without=("fts",)))
    layout.save(where, plan)
    assert layout.load(where) == plan
    instances = (port for one in plan.instances for port in (one.rest, one.monitoring))
    assert len({*plan.ports.values(), *instances}) == len(plan.ports) + 2 * 3
    assert {*layout.SERVERS, *layout.DUMMIES, "epmd"} < set(plan.ports)


def test_a_plan_of_another_version_is_none(tmp_path: Path) -> None:
    where = Layout(directory=tmp_path)
    where.plan.write_text('{"of": "old"}')
    assert layout.load(where) is None


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(without=("rabbit",)), "no part 'rabbit'"),
        (Request(without=("deliv@2",)), "no part 'deliv@2'"),
        (Request(fts_url="http://fts"), "https"),
        (Request(fts_url="https://fts", fts_ca="/nowhere"), "/nowhere is no directory"),
    ],
)
def test_requests_that_make_no_sense(tmp_path: Path, request_: Request, message: str) -> None:
    where = Layout(directory=tmp_path / "run")
    with pytest.raises(TestbedError, match=message):
        control.up(where, request_)
    assert not where.directory.exists()


def test_products_are_what_their_index_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "WRITTEN_WHOLE", 4 * 2**20)
    sizes: products.Sizes = {
        "empty": 0,
        "with a space": 3,
        "non-ASCII é": 2**20 + 1,
        "large": 9 * 2**20 + 5,
        "directory": {"a b/ü": 3, "a b/empty": 0, "large": 5 * 2**20},
    }
    products.install(tmp_path, sizes)
    archive = Archive(tmp_path)
    for product_id, entry in products.known(tmp_path).items():
        product = archive.find(product_id)
        assert product is not None and product.name == product_id
        assert product.is_directory == ("files" in entry)
        files = {name: b"".join(chunks) for name, chunks in product.files}
        of_each = {name: len(content) for name, content in files.items()}
        assert of_each in (sizes[product_id], {product_id: sizes[product_id]})
        assert sum(of_each.values()) == entry["size"]
        assert entry.get("files", {product_id: entry}) == {
            name: {"size": len(content), "adler32": f"{zlib.adler32(content):08x}"}
            for name, content in files.items()
        }
    assert (tmp_path / "products" / "large").stat().st_blocks * 512 < 2**20


def test_an_archive_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for product_id in ("first", "second"):
        monkeypatch.setattr(products, "SEED", {product_id: 3})
        assert products.main([str(tmp_path / "archive")]) == 0
        assert set(products.known(tmp_path / "archive")) == {"first"}


def test_the_seed_has_the_awkward_ones() -> None:
    assert products.SEED["005"] == 2**20  # the product of the prototype's example
    sizes = [size for size in products.SEED.values() if isinstance(size, int)]
    assert min(sizes) == 0 and max(sizes) == 2**30
    assert any(" " in name for name in products.SEED)
    assert any(not name.isascii() for name in products.SEED)
    assert not any(synthetic.size_of(name) is not None or tree_of(name) for name in products.SEED)


def test_the_seed_has_a_directory_with_awkward_files() -> None:
    (files,) = (size for size in products.SEED.values() if not isinstance(size, int))
    assert {name.count("/") for name in files} == {0, 1, 2}
    assert min(files.values()) == 0 and max(files.values()) > 2**20
    assert any(" " in name for name in files)
    assert any(not name.isascii() for name in files)


def test_secrets_are_for_one_reader(tmp_path: Path) -> None:
    secrets.write(tmp_path / "secrets" / "one", CALLER)
    secrets.write(tmp_path / "secrets" / "two", CALLER)
    one, two = ((tmp_path / "secrets" / name) for name in ("one", "two"))
    assert re.fullmatch("[0-9a-f]{32}", one.read_text()) and one.read_text() != two.read_text()
    assert one.stat().st_mode & 0o777 == 0o600
    assert one.parent.stat().st_mode & 0o777 == 0o700


@dataclass(frozen=True, kw_only=True)
class Written:
    """Everything that `up` writes before it starts anything."""

    where: Layout
    plan: layout.Plan
    parts: Parts
    identities: Identities


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    where = Layout(directory=tmp_path_factory.mktemp("testbed"))
    plan = layout.choose(Request(instances=2))
    parts, identities = Parts(where, plan, CALLER), Identities(where)
    authority = identities.create(CALLER, None)
    allowed = gridftp.grid_map(identities.gridftp_users(), CALLER)
    for server in (parts.archive, parts.destination):
        server.install(authority, allowed, CALLER)
    parts.broker.install(CALLER)
    database = parts.database
    for user in (database.user, database.migrations_user):
        secrets.write(database.password_file(user), CALLER)
    services.write_policy(where, identities)
    secrets.write_key(where.delegation_key, CALLER)
    services.write_deliv(parts)
    for name in plan.request.dummies:
        services.write_dummy(name, parts, identities)
    products.install(parts.archive.root, {"005": 5})
    return Written(where=where, plan=plan, parts=parts, identities=identities)


def test_each_instance_has_a_configuration_that_loads(written: Written) -> None:
    first, second = (config.load(written.where.config(number)) for number in (1, 2))
    assert first.rest.public_url != second.rest.public_url
    assert first.monitoring != second.monitoring
    assert first.database == second.database
    assert first.database.password() == written.parts.database.password("deliv")
    assert first.database.migrations is not None
    assert first.database.migrations.password() != first.database.password()
    assert first.broker.password() == written.parts.broker.password()
    assert first.delegation is not None
    KeySealer.load(first.delegation.key_file)
    for credential in (first.credential, first.rest):
        pki.load(credential.certificate, credential.key)


def test_the_dummies_settings_load(written: Written) -> None:
    stager = read(written.where.settings("stager"), StagerSettings)
    assert stager.gridftp == written.parts.archive.address
    assert stager.staging_directory.is_relative_to(written.parts.archive.root)
    pki.load(stager.client_certificate, stager.client_key)
    assert stager.clients == (written.identities.dn("services/deliv"),)
    configs = (config.load(written.where.config(number)) for number in (1, 2))
    assert stager.callbacks == tuple(str(one.rest.public_url) for one in configs)
    fts = read(written.where.settings("fts"), FtsSettings)
    pki.load(fts.certificate, fts.key)
    assert fts.state.is_dir()
    issuer = read(written.where.settings("issuer"), IssuerSettings)
    pki.load(issuer.certificate, issuer.key)
    assert issuer.state.is_dir()


def test_the_stagers_tokens_are_those_that_deliv_wants(written: Written) -> None:
    expected = config.load(written.where.config(1)).stager.callback.token
    asked = read(written.where.settings("stager"), StagerSettings).token
    issuer = read(written.where.settings("issuer"), IssuerSettings)
    assert expected and asked
    client = issuer.clients[asked.client_id]
    assert client.dn == written.identities.dn("users/stager")
    assert (expected.scope, expected.audience) == (asked.scope, asked.audience)
    assert (client.scopes, client.audiences) == ((asked.scope,), (asked.audience,))
    assert expected.issuer == issuer.issuer
    assert {expected.jwks_url, asked.url} == {f"{issuer.issuer}/jwks", f"{issuer.issuer}/token"}


def test_the_policy_says_who_may_do_what(written: Written) -> None:
    policy = Policy.load(written.where.policy)

    def allowed(user: str, action: Action, **more: str) -> bool:
        return policy.explain(written.identities.dn(user), action, **more).decision.allowed

    for user in ("users/alice", "users/bob", "users/operator"):
        assert allowed(user, Action.SUBMIT, destination_host="127.0.0.1")
        assert allowed(user, Action.SUBMIT, destination_host="localhost")
        assert not allowed(user, Action.SUBMIT, destination_host="elsewhere.example")
        assert not allowed(user, Action.STAGE_REPORT)
    alice = written.identities.dn("users/alice")
    assert allowed("users/operator", Action.CANCEL, owner=alice)
    assert not allowed("users/bob", Action.CANCEL, owner=alice)
    assert allowed("users/stager", Action.STAGE_REPORT)
    assert not allowed("users/stager", Action.SUBMIT, destination_host="127.0.0.1")


def test_the_description_has_the_named_keys(written: Written) -> None:
    description.write_description(written.parts, written.identities, {"mariadb": 5})
    document = json.loads(written.where.description.read_text(encoding="utf-8"))
    assert set(document) == {
        *("url", "monitoring_url", "ca_dir", "ca_file", "ca_key", "config", "users"),
        *("stager_user", "gridftp", "fts_url", "stager_url", "issuer_url", "products", "database"),
        *("broker_url", "pids"),
    }
    assert set(document["users"]) == {"alice", "bob", "operator"}
    for user in (*document["users"].values(), document["stager_user"]):
        assert set(user) == {"cert", "key", "proxy", "dn"}
        assert pki.load(Path(user["cert"]), Path(user["key"])).dn == user["dn"]
        proxy = pki.load(Path(user["proxy"]), Path(user["proxy"]))
        assert proxy.dn.startswith(user["dn"] + "/CN=")
    assert document["products"] == {"005": {"size": 5, "adler32": f"{synthetic.adler32(5)}"}}
    for server in document["gridftp"].values():
        assert server["url"].endswith(server["root"])
    assert set(document["database"]) == {"host", "port", "user", "password", "name"}
    authority = pki.Authority.load(Path(document["ca_file"]), Path(document["ca_key"]))
    assert authority.issue(pki.user_name("carol")).dn == "/O=deliv testbed/OU=users/CN=carol"


def test_parts_that_are_left_out(written: Written) -> None:
    plan = layout.choose(Request(instances=2, without=("deliv", "mariadb"), fts_url="https://f"))
    parts = Parts(written.where, plan, CALLER)
    wanted = [part for part in parts.names if parts.wanted(part)]
    assert wanted == ["rabbitmq", "gridftp-archive", "gridftp-destination", "issuer", "stager"]
    assert services.dummy_urls(plan)["fts"] == "https://f"
    with pytest.raises(TestbedError, match="no part 'deliv@3'"):
        parts.programs("deliv@3")


def test_every_part_has_its_programs(written: Written) -> None:
    programs = {part: written.parts.programs(part) for part in written.parts.names}
    assert [program.name for program in programs.pop("rabbitmq")] == ["epmd", "rabbitmq"]
    for part, (program,) in programs.items():
        assert program.name == part


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    where = Layout(directory=tmp_path)
    (tmp_path / "precious").touch()
    with pytest.raises(TestbedError, match="something else"):
        control._clean(where, CALLER)
    assert (tmp_path / "precious").exists()
    assert control.down(where) == []
    with pytest.raises(TestbedError, match="no stack was brought up"), control.stack(where):
        pass


def test_one_command_at_a_time(tmp_path: Path) -> None:
    where = Layout(directory=tmp_path)
    with (
        control._locked(where),
        pytest.raises(TestbedError, match="another command"),
        control._locked(where),
    ):
        pass


def test_the_callers_python_serves_the_caller() -> None:
    python = interpreter.find(CALLER)
    assert python.program == Path(sys.executable)
    assert python.module("deliv.cli")[-2:] == ("-m", "deliv.cli")


def test_accounts() -> None:
    account = accounts.unprivileged()
    assert account.uid != 0
    assert account.can("x", Path("/usr"))
    assert not account.can("w", Path("/usr"))
    assert account.reaching(Path("/usr/bin")) == account


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops its rights")
def test_as_root_the_user_gets_into_a_closed_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for name in ("a way", "secret"):
        (tmp_path / name / "below").mkdir(parents=True)
    plain = accounts.unprivileged()
    assert plain.name == "nobody"
    below = tmp_path / "a way" / "below"
    plain.own(below)
    assert not plain.can("x", below)
    seeing = plain.reaching(below)
    assert seeing.can("w", below)
    assert not seeing.can("x", tmp_path / "secret")
    script = "id -un; pwd; umask; touch made"
    done = seeing.run(("sh", "-c", script), cwd=below, capture_output=True, umask=0o077)
    assert done.stdout.split() == ["nobody", *str(below).split(), "0077"]
    assert (below / "made").stat().st_uid == plain.uid
    assert not Path("/run/0").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops its rights")
def test_as_root_it_says_what_is_closed_for_good(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir(mode=0o700)
    with pytest.raises(TestbedError, match=r"nobody, who can't get to .*below: .* is closed"):
        accounts.unprivileged(tmp_path / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_as_root_it_gives_files_away(tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").touch()
    (tmp_path / "tree" / "link").symlink_to(tmp_path)
    account = accounts.unprivileged()
    account.own(tmp_path / "tree")
    assert (tmp_path / "tree" / "sub" / "file").stat().st_uid == account.uid
    assert tmp_path.stat().st_uid == 0
