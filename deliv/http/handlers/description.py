"""The description of the calls, for programs: OpenAPI, beside this file."""

from __future__ import annotations

from importlib.resources import files

from deliv.http.call.base import Call

TEXT = files("deliv.http").joinpath("openapi.yaml").read_bytes()


class Description(Call):
    """GET /openapi.yaml."""

    async def get(self) -> None:
        self.set_header("Content-Type", "application/yaml; charset=UTF-8")
        self.finish(TEXT)
