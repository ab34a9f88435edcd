"""A job's life: looked at, listed, cancelled, tried again, submitted twice."""

from __future__ import annotations

from integration.fts_replay.scene import DEAD, SECTIONS, Scene, section
from integration.private_fts import UNKNOWN
from integration.recorded import Answer


@section("POST ok")
def submit(scene: Scene) -> list[Answer]:
    """And the three looks at the job while nothing has happened to it yet."""
    with scene.fts.all_slots_taken(1):
        answer = scene.copy("f1m", "t1", overwrite=True)
        job = scene.ids["J1"] = answer.content["job_id"]
        names = "file_state,dest_surl,throughput,filesize,reason,retry,finish_time,nosuchfield"
        for title, path in (
            ("GET /jobs/J1 at once", f"/jobs/{job}"),
            ("GET /jobs/J1/files at once", f"/jobs/{job}/files"),
            (f"GET /jobs/J1?files={names}", f"/jobs/{job}?files={names}"),
        ):
            at_once = scene.alice.get(path)
            SECTIONS[title] = lambda _, at_once=at_once: [at_once]
    return [answer]


@section("GET /jobs/J1 finished")
def finished(scene: Scene) -> list[Answer]:
    scene.alice.ended(scene.ids["J1"])
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}")]


@section("GET /jobs/J1/files finished")
def files_finished(scene: Scene) -> list[Answer]:
    answer = scene.alice.get(f"/jobs/{scene.ids['J1']}/files")
    scene.ids["F1"] = answer.content[0]["file_id"]
    return [answer]


@section("GET /jobs/J1/job_state")
def one_field(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}/job_state")]


@section("GET /jobs/J1/nosuchfield")
def no_field(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}/nosuchfield")]


@section("GET /jobs/J1/files/8872474435/retries")
def no_retries(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}/files/{scene.ids['F1']}/retries")]


@section("GET /jobs/J1/dm")
def data_management(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}/dm")]


@section("DELETE /jobs/J1 (finished)")
def cancel_finished(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{scene.ids['J1']}")]


@section("DELETE /jobs/J1/files/8872474435 (finished)")
def cancel_finished_file(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{scene.ids['J1']}/files/{scene.ids['F1']}")]


@section("POST J2")
def submit_and_cancel(scene: Scene) -> list[Answer]:
    """And its cancelling, before it has a slot."""
    with scene.fts.all_slots_taken(1):
        answer = scene.copy("f1m", "t2", overwrite=True)
        job = scene.ids["J2"] = answer.content["job_id"]
        canceled = scene.alice.delete(f"/jobs/{job}")
        SECTIONS["DELETE /jobs/J2 (SUBMITTED)"] = lambda _: [canceled]
    return [answer]


@section("GET /jobs/J2/files after cancel")
def files_canceled(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J2']}/files")]


@section("DELETE /jobs/J2 again")
def cancel_again(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{scene.ids['J2']}")]


@section("GET /jobs/J1,J2 bulk, all known")
def bulk(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']},{scene.ids['J2']}")]


@section("GET /jobs/J1,unknown bulk")
def bulk_with_unknown(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']},{UNKNOWN}?files=file_state")]


@section("DELETE /jobs/J1,J2,unknown bulk")
def cancel_bulk(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{scene.ids['J1']},{scene.ids['J2']},{UNKNOWN}")]


@section("GET /jobs/unknown")
def unknown(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{UNKNOWN}")]


@section("GET /jobs/not-a-uuid")
def not_an_id(scene: Scene) -> list[Answer]:
    return [scene.alice.get("/jobs/not-a-uuid")]


@section("GET /jobs/unknown/files")
def files_of_unknown(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{UNKNOWN}/files")]


@section("DELETE /jobs/unknown")
def cancel_unknown(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{UNKNOWN}")]


@section("GET /jobs/J1 as Bob (other VO)")
def job_of_another(scene: Scene) -> list[Answer]:
    return [scene.bob.get(f"/jobs/{scene.ids['J1']}")]


@section("GET /jobs/J1/files as Bob")
def files_of_another(scene: Scene) -> list[Answer]:
    return [scene.bob.get(f"/jobs/{scene.ids['J1']}/files")]


@section("DELETE /jobs/J1 as Bob")
def cancel_another(scene: Scene) -> list[Answer]:
    return [scene.bob.delete(f"/jobs/{scene.ids['J1']}")]


@section("GET /jobs/J1 without cert")
def job_anonymously(scene: Scene) -> list[Answer]:
    return [scene.nobody.get(f"/jobs/{scene.ids['J1']}")]


@section("GET /jobs?state_in=FINISHED&time_window=1&limit=2&fields=job_id,job_state,submit_time")
def listing(scene: Scene) -> list[Answer]:
    """The title has lost something: both recorded jobs are FAILED, so that was asked for."""
    query = "state_in=FINISHED,FAILED&time_window=1&limit=2&fields=job_id,job_state,submit_time"
    return [scene.alice.get(f"/jobs?{query}")]


@section("POST the same destination twice (CheckDuplicates off = upstream default)")
def same_destination(scene: Scene) -> list[Answer]:
    """And the list of what is not finished, while neither is."""
    with scene.fts.all_slots_taken(1):
        answers = [scene.copy("f1m", "t6", overwrite=True) for _ in range(2)]
        active = scene.alice.get("/jobs")
        SECTIONS["GET /jobs (active only)"] = lambda _: [active]
    for answer in answers:
        scene.alice.ended(answer.content["job_id"])
    return answers


@section("retries of the dead-port job")
def retries(scene: Scene) -> list[Answer]:
    body = scene.fts.transfer(DEAD, scene.target("x"), retry=2, overwrite=True)
    job = scene.alice.submit(body).content["job_id"]
    scene.alice.ended(job)
    (file,) = scene.alice.get(f"/jobs/{job}/files").content
    return [
        scene.alice.get(f"/jobs/{job}?files=file_state,reason,retry,recoverable"),
        scene.alice.get(f"/jobs/{job}/files/{file['file_id']}/retries"),
        scene.alice.get(f"/jobs/{job},"),
    ]


@section(
    'deterministic job id: params {"id_generator":"deterministic","sid":"deliv-tx-0001"}, '
    "posted twice"
)
def deterministic(scene: Scene) -> list[Answer]:
    def post(**params: str) -> Answer:
        return scene.copy("f1m", "t8", overwrite=True, **params)

    sid = "deliv-tx-0001"
    answers = [
        post(id_generator="deterministic", sid=sid),
        post(id_generator="deterministic", sid=sid),
        post(sid=sid),
    ]
    job = answers[0].content["job_id"]
    assert job == "261516c0-8cb2-59d9-be55-cb038e8fe9a2", "uuid5(vos_id[0], sid) of the recording"
    scene.alice.delete(f"/jobs/{job}")
    return [
        *answers,
        post(id_generator="deterministic", sid=sid),
        post(id_generator="deterministic"),
    ]


@section("MariaDB down: GET /jobs/x and POST")
def database_down(scene: Scene) -> list[Answer]:
    with scene.fts.without("banned_dns"):
        return [scene.alice.get("/jobs/x"), scene.copy("f1m", "t9"), scene.alice.get("/jobs")]
