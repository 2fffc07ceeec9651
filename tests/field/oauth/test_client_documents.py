"""Servers that read client ID metadata documents: they are taken at their word, whatever methods they list."""

from __future__ import annotations

from typing import Any

import pytest

from oauth import registering
from oauth.models import Discovery, Registration
from tests.oauth.conftest import StartScene
from tests.oauth.test_sign_in import works

OURS = "https://duvo.example.com/client.json"


@pytest.mark.parametrize("dcr", [False, True])
@pytest.mark.parametrize(
    "listed",
    [
        ["client_secret_basic"],
        ["client_secret_basic", "client_secret_post"],
        ["private_key_jwt", "tls_client_auth"],
        ["client_secret_post", "none"],
    ],
    ids=["basic", "secrets", "keys", "none too"],
)
def test_the_document_is_used_whatever_methods_are_listed(
    scene: StartScene, settings: Any, listed: list[str], dcr: bool
) -> None:
    settings.OAUTH_CLIENT_METADATA_URL = OURS
    scene = scene(cimd=True, dcr=dcr, listed_methods=listed)
    scene.auth.know_document(OURS, registering.cimd_document())
    works(scene)
    assert scene.auth.registrations == []
    assert Discovery.objects.get().rung == "cimd"
    assert "client_secret" not in scene.auth.token_requests[0]
    assert scene.auth.at("/token")[0].headers.get("authorization") is None


def test_a_method_from_advanced_settings_does_not_contradict_the_document(scene: StartScene, settings: Any) -> None:
    settings.OAUTH_CLIENT_METADATA_URL = OURS
    scene = scene(connection={"oauth_token_auth": "client_secret_post"}, cimd=True)
    scene.auth.know_document(OURS, registering.cimd_document())
    works(scene)
    assert Registration.objects.get().auth_method == "none"


def test_a_server_that_does_not_read_documents_gets_none(scene: StartScene, settings: Any) -> None:
    settings.OAUTH_CLIENT_METADATA_URL = OURS
    works(scene(cimd=False))
    assert Registration.objects.get().kind == "dcr"


@pytest.mark.parametrize(
    ("public_url", "named"),
    [
        ("http://localhost:8000", None),
        ("http://duvo.internal", None),
        ("HTTP://duvo.internal", None),
        ("https://duvo.example.com", "https://duvo.example.com"),
    ],
)
def test_the_document_names_no_page_over_plain_http(settings: Any, public_url: str, named: str | None) -> None:
    settings.OAUTH_CLIENT_METADATA_URL, settings.PUBLIC_URL = OURS, public_url
    document = registering.cimd_document()
    assert document.get("client_uri") == named
    assert (document["client_id"], document["redirect_uris"]) == (OURS, [registering.redirect_uri()])
