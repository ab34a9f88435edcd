"""The routes of FTS's REST interface."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, HTTPError

from deliv_testbed.fts.bans import STORAGES, USERS
from deliv_testbed.fts.errors import BadRequest, Forbidden
from deliv_testbed.fts.handler import FORM, JSON, FtsHandler, FtsNotFoundHandler, FtsService

ENTRY = {
    "delegation": {"major": 1, "minor": 0, "patch": 0},
    "api": {"major": 3, "minor": 13, "patch": 4},
    "core": None,
    "schema": {"major": 9, "minor": 1, "patch": 0},
    "_links": {
        "curies": [{"name": "fts", "href": "https://gitlab.cern.ch/fts/fts3"}],
        "fts:whoami": {"href": "/whoami", "title": "Check user certificate"},
        "fts:joblist": {
            "href": "/jobs{?vo_name,user_dn,dlg_id,state_in}",
            "title": "List of active jobs",
            "templated": True,
        },
        "fts:job": {
            "href": "/jobs/{id}",
            "title": "Job information",
            "templated": True,
            "hints": {"allow": ["GET", "DELETE"]},
        },
        "fts:configaudit": {"href": "/config/audit", "title": "Configuration"},
        "fts:submitschema": {
            "href": "/api-docs/schema/submit",
            "title": "JSON schema of messages",
        },
        "fts:apidocs": {"href": "/api-docs/", "title": "API Documentation"},
        "fts:jobsubmit": {
            "href": "/jobs",
            "hints": {"allow": ["POST"], "representations": ["fts:submitschema"]},
        },
        "fts:optimizer": {"href": "/optimizer/", "title": "Optimizer"},
        "fts:archive": {"href": "/archive/", "title": "Archive"},
    },
}


class RootHandler(FtsHandler):
    def get(self) -> None:
        self.answer(ENTRY)


class WhoamiHandler(FtsHandler):
    def get(self) -> None:
        self.answer(self.caller.whoami() | {"is_root": self.is_administrator})


class HostsHandler(FtsHandler):
    """What fts-rest-server-status shows."""

    def get(self) -> None:
        self.answer(self.jobs.activity(self.member))


class DelegationHandler(FtsHandler):
    def get(self, dlg_id: str) -> None:
        self.answer(self.service.delegation.view(self.caller, dlg_id))

    def delete(self, dlg_id: str) -> None:
        self.service.delegation.delete(self.caller, dlg_id)
        self.set_status(204)
        self.finish()


class CertificateRequestHandler(FtsHandler):
    async def get(self, dlg_id: str) -> None:
        request = await self.service.delegation.request(self.caller, dlg_id)
        self.set_header("X-Delegation-ID", dlg_id)
        self.reply(request, 200, "text/plain")


class CredentialHandler(FtsHandler):
    def put(self, dlg_id: str) -> None:
        """A form's body never reaches FTS's delegation: it sees an empty one."""
        is_form = self.request.headers.get("Content-Type", "").startswith(FORM)
        body = b"" if is_form else self.request.body
        self.service.delegation.accept(self.caller, dlg_id, body)
        self.reply("", 201, JSON)

    post = put


class JobsHandler(FtsHandler):
    def get(self) -> None:
        self.stream(self.jobs.listing(self.member, self.filters))

    def post(self) -> None:
        caller = self.member
        self.answer(self.jobs.submit(caller, self.body()))

    put = post


class JobHandler(FtsHandler):
    """One job, or several with commas between their ids."""

    def get(self, ids: str) -> None:
        fields = self.get_query_argument("files", "")
        names = fields.split(",") if fields else []
        self._answer_all(ids, self.jobs.statuses(self.identified, _split(ids)), names)

    def delete(self, ids: str) -> None:
        self._answer_all(ids, self.jobs.cancel(self.identified, _split(ids)))

    def post(self, ids: str) -> None:
        caller = self.identified
        try:
            priority = min(max(int(self.body()["params"]["priority"]), 1), 5)
        except (KeyError, TypeError, ValueError) as error:
            raise BadRequest("Invalid priority value") from error
        self._answer_all(ids, self.jobs.set_priority(caller, _split(ids), priority))

    def _answer_all(
        self, ids: str, elements: list[dict[str, Any]], file_fields: Sequence[str] = ()
    ) -> None:
        """One element by itself with its status; several as a list, 207 when one went wrong."""
        complete = self.jobs.with_files(elements, file_fields)
        if "," not in ids and elements:
            code = int(elements[0]["http_status"].partition(" ")[0])
            return self.answer(next(complete), 200 if code == 304 else code)
        failed = any(element["http_status"][0] in "45" for element in elements)
        self.stream(complete, 207 if failed else 200)


class FilesHandler(FtsHandler):
    def get(self, job_id: str) -> None:
        self.stream(self.jobs.files(self.identified, job_id))


class UnfinishedFilesHandler(FtsHandler):
    """A `limit` does not count, and FTS looks for a `time_window` in a column that files lack."""

    def get(self) -> None:
        if "time_window" in self.filters:
            raise HTTPError(500)
        self.answer(self.jobs.unfinished_files(self.member, self.filters))


class StorageHandler(FtsHandler):
    async def get(self, how: str) -> None:
        surl = self.get_query_argument("surl", "")
        self.answer(await self.service.storage.look(self.member, how, surl))


class DataManagementHandler(FtsHandler):
    """Deletions, of which there are none."""

    def get(self, job_id: str) -> None:
        self.jobs.get(self.identified, job_id)
        self.answer([])


class FieldHandler(FtsHandler):
    def get(self, job_id: str, name: str) -> None:
        self.answer(self.jobs.field(self.identified, job_id, name))


class CancelFilesHandler(FtsHandler):
    def delete(self, job_id: str, ids: str) -> None:
        numbers = [int(number) for number in ids.split(",")]
        states = self.jobs.cancel_files(self.identified, job_id, numbers)
        self.answer(states if len(states) > 1 else states[0])


class RetriesHandler(FtsHandler):
    def get(self, job_id: str, file_id: str) -> None:
        self.answer(self.jobs.retries(self.identified, job_id, int(file_id)))


class ArchiveHandler(FtsHandler):
    def get(self, job_id: str) -> None:
        self.answer(self.jobs.archived(self.caller, job_id))


class ArchiveFieldHandler(FtsHandler):
    """Of the job, its `files` among them."""

    def get(self, job_id: str, name: str) -> None:
        self.answer(self.jobs.archived_field(self.caller, job_id, name))


class BanHandler(FtsHandler):
    """Bans of one kind, by the field `name` of a request, for FTS's own host alone."""

    table: str
    name: str

    def begin(self) -> None:
        if not self.is_administrator:
            raise Forbidden("Not enough permissions")

    def get(self) -> None:
        self.answer(self.service.bans.listed(self.table))

    def post(self) -> None:
        body = self.body()
        if not body.get(self.name):
            raise BadRequest(f"Missing {self.name} parameter")
        ban = {USERS: self.service.bans.ban_user, STORAGES: self.service.bans.ban_storage}
        self.answer(ban[self.table](self.caller, body[self.name], body.get("message", "")))

    def delete(self) -> None:
        self.service.bans.lift(self.table, self.get_query_argument(self.name))
        self.set_status(204)
        self.finish()


class BannedUsersHandler(BanHandler):
    table, name = USERS, "user_dn"


class BannedStoragesHandler(BanHandler):
    table, name = STORAGES, "storage"


class Rest(Application):
    """Repeated slashes are one, as at Apache: the official client writes two."""

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        request.path = re.sub("/{2,}", "/", request.path)
        return super().find_handler(request, **kwargs)


def application(service: FtsService) -> Rest:
    arguments = {"service": service}
    routes: list[tuple[str, type[FtsHandler]]] = [
        ("/", RootHandler),
        ("/whoami", WhoamiHandler),
        ("/status/hosts", HostsHandler),
        ("/delegation/([^/]+)", DelegationHandler),
        ("/delegation/([^/]+)/request", CertificateRequestHandler),
        ("/delegation/([^/]+)/credential", CredentialHandler),
        ("/jobs/?", JobsHandler),
        ("/jobs/([^/]+)", JobHandler),
        ("/jobs/([^/]+)/files", FilesHandler),
        ("/jobs/([^/]+)/files/([0-9]+)/retries", RetriesHandler),
        ("/jobs/([^/]+)/files/([0-9]+(?:,[0-9]+)*)", CancelFilesHandler),
        ("/jobs/([^/]+)/dm", DataManagementHandler),
        ("/jobs/([^/]+)/([^/]+)", FieldHandler),
        ("/files/?", UnfinishedFilesHandler),
        ("/dm/(stat|list)", StorageHandler),
        ("/archive/([^/]+)", ArchiveHandler),
        ("/archive/([^/]+)/([^/]+)", ArchiveFieldHandler),
        ("/ban/dn", BannedUsersHandler),
        ("/ban/se", BannedStoragesHandler),
    ]
    return Rest(
        [(path, handler, arguments) for path, handler in routes],
        default_handler_class=FtsNotFoundHandler,
        default_handler_args=arguments,
    )


def _split(ids: str) -> list[str]:
    return [job_id for job_id in ids.split(",") if job_id]
