"""The description names the calls that there are, and says of each what is true of all."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from tornado.web import RequestHandler

from deliv.http.call.base import METHODS, Call
from deliv.http.handlers.description import TEXT
from deliv.http.handlers.lists import LEFT_OUT, MOST, STEP, USUAL
from deliv.http.server import calls
from deliv.model.error_classes import ErrorClass
from deliv.model.job import PUBLIC
from deliv.model.states import Status

DESCRIPTION: dict[str, Any] = yaml.safe_load(TEXT)
SCHEMAS = DESCRIPTION["components"]["schemas"]
OPERATIONS = {
    (path, method.upper()): operation
    for path, item in DESCRIPTION["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}
ALWAYS = {"400", "403", "405", "413", "414", "429", "431", "500", "503"}


def methods(call: type[Call]) -> set[str]:
    own = {m for m in METHODS if getattr(call, m.lower()) is not getattr(RequestHandler, m.lower())}
    assert own, f"{call.__name__} takes no method"
    return own


def template(pattern: str) -> str:
    """A route's pattern as the description writes it."""
    return re.sub(r"\([^)]+\)", "{id}", pattern.replace("/+", "/"))


def test_it_names_the_calls_that_there_are_and_their_methods() -> None:
    there = {(template(path), method) for path, call in calls() for method in methods(call)}
    assert set(OPERATIONS) == there


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda one: one["operationId"])
def test_what_every_call_may_answer(operation: dict[str, Any]) -> None:
    assert ALWAYS <= set(operation["responses"])
    takes_form = "application/json" in operation.get("requestBody", {}).get("content", {})
    assert takes_form == ("415" in operation["responses"])


@pytest.mark.parametrize(
    ("path", "method"),
    [("/submitTransfer", "POST"), ("/cancelTransfer", "POST"), ("/doneStaging", "POST")],
)
def test_it_names_the_parameters_in_a_body(path: str, method: str) -> None:
    call = dict(calls())[path]
    content = OPERATIONS[path, method]["requestBody"]["content"]
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        schema = content[kind]["schema"]
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        assert set(schema["properties"]) == {*call.accepts.required, *call.accepts.optional}
        assert set(schema["required"]) == set(call.accepts.required)


@pytest.mark.parametrize("path", ["/transferStatus", "/transferEvents", "/transfers"])
def test_it_names_the_parameters_in_a_query(path: str) -> None:
    call = dict(calls())[path]
    parameters = OPERATIONS[path, "GET"].get("parameters", [])
    assert {one["name"] for one in parameters if one.get("required")} == set(call.accepts.required)
    assert {one["name"] for one in parameters} == {*call.accepts.required, *call.accepts.optional}


def test_it_names_the_fields_of_a_job() -> None:
    assert set(SCHEMAS["Job"]["properties"]) == {*PUBLIC, "warning"}
    assert set(SCHEMAS["ListedJob"]["properties"]) == set(PUBLIC) - LEFT_OUT
    assert set(SCHEMAS["JobEvent"]["properties"]) == set(STEP)


def test_it_names_the_values_there_are() -> None:
    assert SCHEMAS["Status"]["enum"] == list(Status)
    assert SCHEMAS["ErrorClass"]["enum"] == list(ErrorClass)
    limit = next(
        one["schema"]
        for one in OPERATIONS["/transfers", "GET"]["parameters"]
        if one["name"] == "limit"
    )
    assert (limit["maximum"], limit["default"]) == (MOST, USUAL)
