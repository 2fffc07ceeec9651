"""What is too large for a result is stored whole, sealed, and linked; only its own assignment fetches it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from connections import rotation
from connections.errors import SealBroken
from connections.models import AuditEvent
from duvo import restoring
from tests.conftest import House
from tests.servers import kinds
from tests.tools.conftest import Shop
from tools.calls import contents, disclosure
from tools.models import Call, StoredContent

KB, MB = 1024, 1024 * 1024
MARKER = "gl-marker-7f3a"
CALL_ID = UUID(int=7)
OLD, NEW = (base64.urlsafe_b64encode(bytes([byte]) * 32).decode() for byte in (1, 2))
Sort = Callable[..., Call]


def result(*content: dict[str, Any], structured: Any = None) -> dict[str, Any]:
    return {"is_error": False, "content": list(content), "structured_content": structured}


def text(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": "a" * size, **more}


def picture(data: bytes, kind: str = "image", media_type: str = "image/png", **more: Any) -> dict[str, Any]:
    return {"type": kind, "data": base64.b64encode(data).decode(), "mimeType": media_type, **more}


def split(given: dict[str, Any]) -> tuple[dict[str, Any], list[contents.Piece]]:
    return contents.split(given, length=len(json.dumps(given)), link=lambda number: f"here/{number}")


# --- splitting ---


def test_a_small_result_stays_the_very_same_object() -> None:
    small = result(text(10), picture(b"x" * 9000))
    assert split(small) == (small, [])
    assert split(small)[0] is small


def test_a_result_in_which_nothing_is_too_large_stays_the_very_same_object() -> None:
    fits = result(text(99 * KB), picture(b"x" * 12_000))
    assert split(fits)[0] is fits


@pytest.mark.parametrize(
    ("block", "data", "media_type"),
    [
        (text(101 * KB), b"a" * 101 * KB, "text/plain"),
        (picture(b"\x89PNG" * 4096), b"\x89PNG" * 4096, "image/png"),
        (picture(b"wave" * 4096, "audio", "audio/wav"), b"wave" * 4096, "audio/wav"),
        (
            {
                "type": "resource",
                "resource": {"uri": "file:///a.md", "mimeType": "text/markdown", "text": "é" * 60_000},
            },
            ("é" * 60_000).encode(),
            "text/markdown",
        ),
        (
            {"type": "resource", "resource": {"uri": "x:y", "blob": base64.b64encode(b"\0" * 20_000).decode()}},
            b"\0" * 20_000,
            "application/octet-stream",
        ),
    ],
    ids=["text", "image", "audio", "text resource", "blob resource"],
)
def test_a_block_that_is_too_large_becomes_a_link_and_the_order_stays(
    block: dict[str, Any], data: bytes, media_type: str
) -> None:
    left, [piece] = split(result(text(1), block, text(2)))
    first, link, last = left["content"]
    assert (first, last) == (text(1), text(2))
    assert (piece.number, piece.data, piece.media_type, piece.size) == (1, data, media_type, len(data))
    assert piece.digest == hashlib.sha256(data).hexdigest()
    assert link["type"] == "resource_link"
    assert (link["uri"], link["mimeType"], link["size"]) == ("here/1", media_type, len(data))
    assert link["_meta"]["duvo/sha256"] == piece.digest
    assert link["_meta"]["duvo/kind"] == block["type"]
    assert len(json.dumps(link)) < KB


def test_a_link_keeps_what_else_its_block_said() -> None:
    aside = {"annotations": {"audience": ["user"]}, "_meta": {"example.com/x": 1}, "unknown": True}
    [link] = split(result(picture(b"x" * 20_000, **aside)))[0]["content"]
    assert link["_meta"]["duvo/block"] == {"type": "image", "mimeType": "image/png", **aside}
    assert link["annotations"] == aside["annotations"]
    resource = {"uri": "file:///a", "text": "a" * 101 * KB, "_meta": {"b": 2}}
    [link] = split(result({"type": "resource", "resource": resource, "annotations": {"priority": 1}}))[0]["content"]
    said = {"type": "resource", "resource": {"uri": "file:///a", "_meta": {"b": 2}}, "annotations": {"priority": 1}}
    assert link["_meta"]["duvo/block"] == said


def test_large_structured_content_is_stored_as_json() -> None:
    structured = {"rows": ["é" * 100] * 1000}
    left, [piece] = split(result(text(1), structured=structured))
    assert left["content"] == [text(1)]
    assert left["structured_content"] is None
    link = left["structured_content_link"]
    assert (link["type"], link["uri"], link["mimeType"]) == ("resource_link", "here/1", "application/json")
    assert json.loads(piece.data) == structured
    assert link["_meta"] == {"duvo/sha256": piece.digest, "duvo/kind": "structured_content"}


def test_of_many_blocks_the_largest_are_stored_until_the_rest_fits() -> None:
    left, pieces = split(result(*(text(40 * KB + index) for index in range(60))))
    stored = [index for index, block in enumerate(left["content"]) if block["type"] == "resource_link"]
    assert stored == list(range(60 - len(pieces), 60))
    assert 990 * KB < len(json.dumps(left)) < MB


def test_more_blocks_than_fit_are_stored_as_one() -> None:
    blocks = [text(100) for _ in range(20_000)]
    left, [piece] = split(result(*blocks))
    [link] = left["content"]
    assert link["_meta"]["duvo/kind"] == "content"
    assert json.loads(piece.data) == blocks


@pytest.mark.parametrize(
    "block",
    [
        {"type": "chart", "points": [1] * 700_000},
        {"type": ["text"], "text": "a" * 2 * MB},
        {"type": "text", "text": {"a": "b" * 2 * MB}},
        {"type": "resource", "resource": {"text": "a" * 2 * MB, "blob": "YQ=="}},
        {"type": "text", "text": "", "_meta": {"a": "b" * 2 * MB}},
        {"type": "image", "data": "YWFh" * 400_000, "mimeType": "image/png", "_meta": "c" * 9 * KB},
    ],
)
def test_a_block_of_an_unknown_shape_is_stored_as_a_whole(block: dict[str, Any]) -> None:
    left, [piece] = split(result(block))
    assert left["content"][0]["type"] == "resource_link"
    assert (piece.media_type, json.loads(piece.data)) == ("application/json", block)


def test_a_block_as_deep_as_json_may_be_is_stored_as_a_whole() -> None:
    deep: Any = {}
    for _ in range(249):
        deep = {"a": deep}
    block = {"type": "image", "data": "YWFh" * 9000, "_meta": deep}
    left, [piece] = split(result(block, text(1)))
    assert orjson.loads(orjson.dumps(left)) == left
    assert json.loads(piece.data) == block


def test_base64_that_is_none_is_kept_as_the_text_it_is() -> None:
    broken = {"type": "image", "data": "no base64! " * 2000, "mimeType": "image/png"}
    _, [piece] = split(result(broken))
    assert (piece.data.decode(), piece.media_type) == (broken["data"], "text/plain")


@pytest.mark.parametrize(
    "claimed", ["image/png", "text/html;profile=mcp-app", 'text/csv; charset="utf-8"', "application/vnd.a+json"]
)
def test_a_media_type_with_the_form_of_one_is_kept(claimed: str) -> None:
    assert contents.media_type(claimed) == claimed


@pytest.mark.parametrize(
    "claimed",
    [None, 7, "", "image", "image/", "image/png\r\nSet-Cookie: a=b", "image/png\n", "a/b;c=\r\n", "te xt/plain",
     "text/plain; x=é", "a/" + "b" * 200, "a/b;c=d" * 40, 'a/b;c="d;e=f"', "../../etc"],
)  # fmt: skip
def test_what_is_no_media_type_becomes_that_of_any_bytes(claimed: object) -> None:
    assert contents.media_type(claimed) == "application/octet-stream"


def test_a_text_says_no_charset_but_its_own() -> None:
    resource = {"uri": "x:y", "mimeType": "text/csv; charset=latin-1; header=present", "text": "é" * 60_000}
    _, [piece] = split(result({"type": "resource", "resource": resource}))
    assert piece.media_type == "text/csv; header=present"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
blocks = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("text"), "text": st.sampled_from(["a" * 300_000, "a" * 1000]) | json_values}
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["image", "audio"]), "data": st.sampled_from(["YWFh" * 9_000, "#" * 30_000, "YQ=="])},
        optional={"mimeType": json_values, "_meta": json_values, "annotations": json_values},
    ),
    st.fixed_dictionaries(
        {"type": st.just("resource"), "resource": json_values | st.just({"blob": "YWFh" * 9_000, "uri": "x:y"})}
    ),
    st.dictionaries(st.text(max_size=5), json_values, max_size=3),
)


@given(content=st.lists(blocks, max_size=8), structured=json_values | st.just(["b" * 200_000]))
def test_nothing_that_a_server_sends_is_lost(content: list[dict[str, Any]], structured: Any) -> None:
    given_ = result(*content, structured=structured)
    left, pieces = split(given_)
    assert len(json.dumps(left)) < MB + 100 * KB
    by_address = {f"here/{piece.number}": piece.data for piece in pieces}
    assert [whole(block, by_address) for block in left["content"]] == content
    if link := left.get("structured_content_link"):
        assert json.loads(by_address[link["uri"]]) == structured
    else:
        assert left["structured_content"] == structured


def whole(block: dict[str, Any], by_address: dict[str, bytes]) -> dict[str, Any]:
    """The block that a link was put for."""
    if block.get("type") != "resource_link":
        return block
    data, said = by_address[block["uri"]], block["_meta"].get("duvo/block")
    if said is None:
        return dict(json.loads(data))
    decoded = block["mimeType"] == "text/plain"  # no media type of a generated block is
    payload = data.decode() if decoded else base64.b64encode(data).decode()
    if said["type"] == "resource":
        return {**said, "resource": {**said["resource"], "blob": payload}}
    return {**said, "text" if said["type"] == "text" else "data": payload}


# --- keeping ---


@pytest.fixture
def sort_out(acme: House) -> Sort:
    """Make a finished call whose result was split."""

    def sorted_out(*blocks: dict[str, Any], house: House = acme, structured: Any = None) -> Call:
        call = Call(
            tenant=house.tenant, assignment=house.tenant.assignments.first() or house.assignment(), tool_name="t__t",
            state="succeeded", started_at=timezone.now(), finished_at=timezone.now(),
        )  # fmt: skip
        given_ = result(*blocks, structured=structured)
        left, pieces = contents.split(
            given_, length=len(json.dumps(given_)), link=lambda number: contents.address(call.pk, number)
        )
        call.sealed_arguments, call.sealed_result = call.seal({"q": MARKER}), call.seal(left)
        call.save()
        with transaction.atomic():
            StoredContent.objects.bulk_create(contents.sealed(call.pk, call.tenant_id, pieces))
        return call

    return sorted_out


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    """The folder of a storage for results."""
    place = tmp_path / "results"
    backend = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": place}}
    settings.STORAGES = {**settings.STORAGES, "results": backend}
    return place


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def marked(size: int = 200 * KB) -> dict[str, Any]:
    return {"type": "text", "text": MARKER * (size // len(MARKER))}


@pytest.mark.smoke
def test_a_content_is_sealed_in_its_row(sort_out: Sort) -> None:
    call = sort_out(marked(), picture(b"x" * 20_000))
    rows = list(call.contents.all())
    assert [row.number for row in rows] == [1, 2]
    assert contents.opened(rows[0]).decode() == marked()["text"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM tools_storedcontent")
        assert MARKER not in str(cursor.fetchall())


@pytest.mark.smoke
def test_with_a_storage_a_content_is_sealed_in_a_file_of_its_organization(sort_out: Sort, folder: Path) -> None:
    call = sort_out(marked())
    row = call.contents.get()
    assert row.sealed == ""
    [file] = files(folder)
    assert file.relative_to(folder).parts[0] == str(call.tenant_id)
    assert re.fullmatch(rf"{call.pk}-[0-9a-f]{{48}}\.[0-9a-f]{{8}}", file.name)
    assert MARKER.encode() not in file.read_bytes()
    assert contents.opened(row).decode() == marked()["text"]


def test_a_storage_that_takes_no_file_loses_no_result(
    sort_out: Sort, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("no folder")
    row = sort_out(marked()).contents.get()
    assert row.file == ""
    assert contents.opened(row).decode() == marked()["text"]
    assert "could not be written to a file" in caplog.text
    assert MARKER not in caplog.text


def test_a_disk_that_is_full_keeps_no_half_of_a_file(sort_out: Sort, folder: Path) -> None:
    """Else it would stay full, and the database would take what is meant for the folder, until the next purge."""
    lasting = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * KB, lasting[1]))  # no file may grow beyond this
    try:
        row = sort_out(marked()).contents.get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, lasting)
    assert (row.file, files(folder)) == ("", [])
    assert contents.opened(row).decode() == marked()["text"]


def test_who_restores_is_told_how_many_files_are_missing(
    sort_out: Sort, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "hindrances", list)  # threads of tests before have connections of their own
    sort_out(marked())
    call_command("restored", "--check")
    assert "0 of which are not there" in (said := capsys.readouterr().out)
    assert "Database, keys and folder belong together." in said
    files(folder)[0].unlink()
    call_command("restored", "--check")
    assert "1 contents of results lie in files, 1 of which are not there" in (said := capsys.readouterr().out)
    assert "Database and keys belong together." in said


def test_a_file_that_is_copied_to_a_rivals_call_does_not_open(sort_out: Sort, folder: Path, rival: House) -> None:
    ours, theirs = sort_out(marked()).contents.get(), sort_out(marked(), house=rival).contents.get()
    theirs.file = ours.file
    with pytest.raises(SealBroken):
        contents.opened(theirs)


@pytest.mark.parametrize("place", ["row", "file"])
def test_rotation_seals_contents_anew_and_the_old_key_can_go(
    sort_out: Sort, settings: Any, place: str, request: pytest.FixtureRequest
) -> None:
    if place == "file":
        request.getfixturevalue("folder")
    settings.SEAL_KEYS = [OLD]
    row = sort_out(marked()).contents.get()
    settings.SEAL_KEYS = [NEW, OLD]
    call_command("rotate_seals")
    settings.SEAL_KEYS = [NEW]
    after = StoredContent.objects.get()
    assert (after.sealed, after.file) != (row.sealed, row.file)
    assert contents.opened(after).decode() == marked()["text"]
    assert not any(progress.total for progress in rotation.rotate())


# --- fetching ---


def fetch(call: Call, token: str, number: int = 1, **headers: str) -> HttpResponse:
    path = contents.address(call.pk, number).partition("/v1/")[2]
    return Client().get(f"/v1/{path}", headers={"Authorization": f"Bearer {token}", **headers})


def owners_token(house: House) -> str:
    return house.token(house.tenant.assignments.get())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["row", "file"])
def test_its_assignment_fetches_a_content_and_a_rival_does_not(
    sort_out: Sort, acme: House, rival: House, place: str, request: pytest.FixtureRequest
) -> None:
    if place == "file":
        request.getfixturevalue("folder")
    data = b"\x89PNG" * 5000
    call = sort_out(picture(data))
    owner, stranger = owners_token(acme), rival.token()
    answer = fetch(call, owner, accept="image/png")
    assert answer.status_code == 200
    assert answer.content == data
    [link] = (call.result() or {})["content"]
    assert link["_meta"]["duvo/sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert link["size"] == len(answer.content)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert answer["Repr-Digest"] == f"sha-256=:{digest}:"
    assert answer["Content-Type"] == "image/png"
    theirs = fetch(call, stranger)
    never = fetch(Call(pk=CALL_ID), stranger)
    assert theirs.status_code == never.status_code == 404
    unnamed = [re.sub(rb'"request_id":"[^"]*"', b"", problem.content) for problem in (theirs, never)]
    assert unnamed[0] == unnamed[1]
    assert fetch(call, acme.token(acme.assignment("Teammate"))).status_code == 404
    assert fetch(call, acme.member_token(acme.admin)).status_code == 403
    assert fetch(call, owner, number=2).status_code == 404
    assert fetch(call, owner, number=10**30).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_no_browser_acts_upon_what_a_server_sent(sort_out: Sort, acme: House) -> None:
    page = {"uri": "ui://x", "mimeType": "text/html", "text": "<script>alert(1)</script>" * 5000}
    answer = fetch(sort_out({"type": "resource", "resource": page}), owners_token(acme))
    assert answer["Content-Type"] == "text/html; charset=utf-8"
    assert answer["Content-Disposition"].startswith("attachment;")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer["Cache-Control"] == "private, no-store"


@pytest.mark.django_db(transaction=True)
def test_who_has_a_content_is_not_sent_it_again(sort_out: Sort, acme: House) -> None:
    call, token = sort_out(marked()), owners_token(acme)
    etag = fetch(call, token)["ETag"]
    again = fetch(call, token, if_none_match=etag)
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", etag)
    assert fetch(call, token, if_none_match='"other"').status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_content_whose_file_is_gone_is_said_to_be_gone(sort_out: Sort, acme: House, folder: Path) -> None:
    call = sort_out(marked())
    files(folder)[0].unlink()
    answer = fetch(call, owners_token(acme))
    assert (answer.status_code, json.loads(answer.content)["code"]) == (410, "content_lost")


def test_an_answer_that_is_larger_than_what_is_read_says_so(shop: Shop) -> None:
    shop.answers(kinds.floods)
    answer = shop.call("echo", {"text": "x"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (502, "outcome_unknown")
    assert "larger than 2 MB, the most that is read of one" in problem["detail"]
    assert "“Largest answer”" in problem["detail"]
    assert "The tool may have run" in problem["detail"]
    assert (shop.row.state, shop.row.error_sentence) == ("outcome_unknown", problem["detail"])


# --- people ---


def test_each_read_by_a_person_is_written_down_once(sort_out: Sort, acme: House) -> None:
    call = sort_out(marked())
    arguments, left = disclosure.read_by(acme.auditor, call)
    assert arguments == {"q": MARKER}
    assert left is not None
    event = AuditEvent.objects.get()
    assert (event.actor, event.action, event.outcome) == (acme.auditor.username, "call.read", "ok")
    assert (event.tenant, event.object_id) == (acme.tenant, str(call.pk))
    assert disclosure.download_by(acme.admin, call.contents.get()).decode() == marked()["text"]
    newest = AuditEvent.objects.order_by("pk").last()
    assert newest is not None
    assert (newest.actor, newest.data) == (acme.admin.username, {"content": 1})
    assert MARKER not in str(list(AuditEvent.objects.values()))


def test_a_read_that_no_key_opens_is_written_down_as_failed(
    sort_out: Sort, acme: House, settings: Any, no_other_keys: None
) -> None:
    call = sort_out(marked())
    settings.SEAL_KEYS = [NEW]
    with pytest.raises(SealBroken):
        disclosure.read_by(acme.admin, call)
    assert AuditEvent.objects.get().outcome == "seal_broken"
