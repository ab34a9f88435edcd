"""What a submission is refused for, and what it is not."""

from __future__ import annotations

from integration.fts_replay.scene import FORM, Scene, section
from integration.private_fts import JSON
from integration.recorded import Answer


@section("POST bad source URL (no scheme)")
def no_scheme(scene: Scene) -> list[Answer]:
    return scene.post("/some/file", scene.target("x"))


@section("POST bad URL (no host)")
def no_host(scene: Scene) -> list[Answer]:
    return scene.post("gsiftp:/x", scene.target("x"))


@section("POST bad URL (no path)")
def no_path(scene: Scene) -> list[Answer]:
    return scene.post("gsiftp://localhost", scene.target("x"))


@section("POST unknown scheme")
def unknown_scheme(scene: Scene) -> list[Answer]:
    return scene.post("foo://localhost/x", scene.target("x"))


@section("POST file:// URL")
def local_file(scene: Scene) -> list[Answer]:
    return scene.post("file:///etc/passwd", scene.target("x"))


@section("POST source == destination")
def onto_itself(scene: Scene) -> list[Answer]:
    (answer,) = scene.post(scene.url("f1m"), scene.url("f1m"))
    return scene.ended(answer, "file_state,reason")


def post_raw(scene: Scene, body: str, kind: str = JSON) -> list[Answer]:
    return [scene.alice.call("POST", "/jobs", data=body, headers={"Content-Type": kind})]


@section("POST not JSON")
def not_json(scene: Scene) -> list[Answer]:
    return post_raw(scene, "{not json")


@section("POST JSON without files")
def without_files(scene: Scene) -> list[Answer]:
    return post_raw(scene, '{"params": {}}')


@section("POST empty files")
def empty_files(scene: Scene) -> list[Answer]:
    return post_raw(scene, '{"files": []}')


@section("POST JSON list")
def json_list(scene: Scene) -> list[Answer]:
    return post_raw(scene, "[1, 2]")


@section("POST unknown param / bad type")
def bad_type(scene: Scene) -> list[Answer]:
    return [scene.copy("f1m", "x", nosuchparameter=1, retry="many")]


@section("POST without Content-Type json")
def as_form(scene: Scene) -> list[Answer]:
    return post_raw(scene, '{"files": []}', FORM)


@section("POST bad checksum option")
def bad_checksum_option(scene: Scene) -> list[Answer]:
    answer = scene.copy("f1m", "t1", verify_checksum="perhaps")
    scene.alice.ended(answer.content["job_id"])
    return [answer]


@section("POST metadata too big")
def big_metadata(scene: Scene) -> list[Answer]:
    return [scene.copy("f1m", "x", job_metadata={"x": "y" * 5000})]


@section("POST two files, one missing -> FINISHEDDIRTY")
def two_files(scene: Scene) -> list[Answer]:
    pairs = (("f1m", "t3"), ("missing", "t4"))
    files = [{"sources": [scene.url(source)], "destinations": [scene.target(target)]}
             for source, target in pairs]  # fmt: skip
    params = {"overwrite": True, "verify_checksum": "both"}
    answer = scene.alice.submit({"files": files, "params": params})
    names = "file_index,file_state,reason,checksum,filesize,throughput,retry,recoverable"
    return scene.ended(answer, names)


@section("POST wrong checksum")
def wrong_checksum(scene: Scene) -> list[Answer]:
    file = {"sources": [scene.url("f1m")], "destinations": [scene.target("t5")],
            "checksum": "ADLER32:00000001"}  # fmt: skip
    params = {"overwrite": True, "verify_checksum": "both"}
    answer = scene.alice.submit({"files": [file], "params": params})
    return scene.ended(answer, "file_state,reason,checksum,retry,recoverable")
