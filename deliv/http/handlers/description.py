"""The description of the calls, for programs: OpenAPI, deliv/http/openapi.yaml."""

from __future__ import annotations

from importlib.resources import files

from deliv.http.call.base import Call
from deliv.http.call.parameters import Parameters

TEXT = files("deliv.http").joinpath("openapi.yaml").read_bytes()


class Description(Call[Parameters]):
    """GET /openapi.yaml."""

    path = "/openapi.yaml"

    async def get(self) -> None:
        self.set_header("Content-Type", "application/yaml; charset=UTF-8")
        self.finish(TEXT)
