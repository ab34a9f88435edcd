"""Users and storages that FTS's operators have banned.

What waits or is copied for them is canceled; as at FTS, a copy under way is not stopped by that.
"""

from __future__ import annotations

from collections.abc import Iterable

from deliv_testbed.fts import clock
from deliv_testbed.fts.caller import Caller
from deliv_testbed.fts.database import UNFINISHED_FILES, FtsDatabase, Row
from deliv_testbed.fts.errors import Conflict, Forbidden

USERS, STORAGES = "banned_dns", "banned_ses"
EVERY_VO = "*"


class Bans:
    def __init__(self, database: FtsDatabase) -> None:
        self._database = database

    def has_user(self, dn: str) -> bool:
        return any(ban["dn"] == dn for ban in self._database.bans(USERS))

    def check_storages(self, files: Iterable[Row]) -> None:
        """Forbidden names the first storage of these files that is banned."""
        banned = {ban["se"] for ban in self._database.bans(STORAGES)}
        for file in files:
            for storage in (file["source_se"], file["dest_se"]):
                if storage in banned:
                    raise Forbidden(f"{storage} is banned")

    def ban_user(self, admin: Caller, dn: str, message: str) -> list[str]:
        """The ids of the jobs of which something was canceled."""
        if dn == admin.user_dn:
            raise Conflict("The user tried to ban (her|his)self")
        self._database.ban(USERS, {"dn": dn, **_noted(admin, message)})
        return self._cancel(self._database.files_of_user(dn, UNFINISHED_FILES), "User banned")

    def ban_storage(self, admin: Caller, storage: str, message: str) -> list[str]:
        """`storage` is SCHEME://HOST, whatever the port. Returns the same as `ban_user`."""
        ban = {"se": storage, "vo": EVERY_VO, "status": "CANCEL", **_noted(admin, message)}
        self._database.ban(STORAGES, ban)
        files = self._database.files_of_storage(storage, UNFINISHED_FILES)
        return self._cancel(files, "Storage banned")

    def lift(self, table: str, name: str) -> None:
        self._database.lift(table, {USERS: "dn", STORAGES: "se"}[table], name)

    def listed(self, table: str) -> list[Row]:
        return self._database.bans(table)

    def _cancel(self, files: list[Row], reason: str) -> list[str]:
        """A job ends with its last unfinished file."""
        job_ids = list(dict.fromkeys(file["job_id"] for file in files))
        ended = {"finish_time": clock.now(), "dest_surl_uuid": None, "reason": reason}
        with self._database.transaction():
            for file in files:
                self._database.update_file(file["file_id"], file_state="CANCELED", **ended)
            for job_id in job_ids:
                if self._database.file_states(job_id).isdisjoint(UNFINISHED_FILES):
                    self._database.update_job(
                        job_id, job_state="CANCELED", job_finished=clock.now(), reason=reason
                    )
        return job_ids


def _noted(admin: Caller, message: str) -> dict[str, str]:
    return {"addition_time": clock.now(), "admin_dn": admin.user_dn, "message": message}
