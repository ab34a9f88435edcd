"""The description names the calls that there are, and says of each what is true of all."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deliv.http.call.base import Call
from deliv.http.call.parameters import fields
from deliv.http.handlers.description import TEXT
from deliv.http.handlers.job_view import LISTED
from deliv.http.server import calls
from deliv.model.error_classes import ErrorClass
from deliv.model.job import PUBLIC
from deliv.model.states import FINAL, Status
from tools import openapi_components

DESCRIPTION: dict[str, Any] = yaml.safe_load(TEXT)
SCHEMAS = DESCRIPTION["components"]["schemas"]
CALLS: dict[str, type[Call[Any]]] = {call.path: call for call in calls()}
OPERATIONS = {
    (path, method.upper()): operation
    for path, item in DESCRIPTION["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}
ALWAYS = {"400", "403", "405", "413", "414", "429", "431", "500", "503"}


def template(pattern: str) -> str:
    """A route's pattern as the description writes it."""
    return re.sub(r"\([^)]+\)", "{id}", pattern.replace("/+", "/"))


def test_it_names_the_calls_that_there_are_and_their_methods() -> None:
    there = {(template(call.path), method) for call in calls() for method in call.allowed_methods()}
    assert set(OPERATIONS) == there


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda one: one["operationId"])
def test_what_every_call_may_answer(operation: dict[str, Any]) -> None:
    assert ALWAYS <= set(operation["responses"])
    takes_form = "application/json" in operation.get("requestBody", {}).get("content", {})
    assert takes_form == ("415" in operation["responses"])


def test_its_schemas_are_those_of_the_structs() -> None:
    text = TEXT.decode()
    assert openapi_components.generated(text) == text, "run python tools/openapi_components.py"


@pytest.mark.parametrize(
    "path", ["/submitTransfer", "/cancelTransfer", "/retryTransfer", "/doneStaging"]
)
def test_it_names_the_parameters_in_a_body(path: str) -> None:
    content = OPERATIONS[path, "POST"]["requestBody"]["content"]
    name = CALLS[path].accepts.__name__
    in_json = f"{name}InJson" if f"{name}InJson" in SCHEMAS else name
    referred = {kind: body["schema"]["$ref"] for kind, body in content.items()}
    assert referred == {
        "application/x-www-form-urlencoded": f"#/components/schemas/{name}",
        "application/json": f"#/components/schemas/{in_json}",
    }


@pytest.mark.parametrize(
    "path", ["/transferStatus", "/transferEvents", "/transferFiles", "/transfers"]
)
def test_it_names_the_parameters_in_a_query(path: str) -> None:
    kind = CALLS[path].accepts
    described = {one["name"]: one for one in OPERATIONS[path, "GET"].get("parameters", [])}
    required = {name: bool(one.get("required")) for name, one in described.items()}
    assert required == {name: field.required for name, field in fields(kind).items()}
    schemas = {name: one["schema"] for name, one in described.items()}
    assert schemas == SCHEMAS[kind.__name__]["properties"]


def test_it_names_the_fields_of_a_job() -> None:
    assert set(SCHEMAS["JobAnswer"]["properties"]) == {*PUBLIC, "warning", "retried_by"}
    assert set(SCHEMAS["ListedJobAnswer"]["properties"]) == {*LISTED, "retried_by"}


def test_it_names_the_values_there_are() -> None:
    assert SCHEMAS["Status"]["enum"] == sorted(Status)
    assert SCHEMAS["ErrorClass"]["enum"] == sorted(ErrorClass)


def test_the_schema_of_a_job_has_a_case_for_each_status() -> None:
    cases = [case["properties"]["status"] for case in SCHEMAS["JobAnswer"]["oneOf"]]
    assert cases[0] == {"enum": [status for status in Status if status not in FINAL]}
    assert {case["const"] for case in cases[1:]} == FINAL
