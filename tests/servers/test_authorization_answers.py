"""What our test authorization servers say of themselves, and what comes back from the person."""

from __future__ import annotations

import httpx2
import pytest

from tests.servers.authorization.by_hand import asking, come_back, exchange, register, sign_in
from tests.servers.authorization.metadata import OAUTH, OIDC
from tests.servers.authorization.server import approve
from tests.servers.fixtures import StartAuthorizationServer


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("oauth", f"{OAUTH}/tenants/acme"),
        ("oidc_inserted", f"{OIDC}/tenants/acme"),
        ("oidc_appended", f"/tenants/acme{OIDC}"),
    ],
)
def test_metadata_of_an_issuer_with_a_path_is_in_one_place_only(
    authorization_server: StartAuthorizationServer, http: httpx2.Client, kind: str, place: str
) -> None:
    auth = authorization_server(issuer_path="/tenants/acme", metadata=kind)
    found = http.get(f"{auth.origin}{place}").json()
    assert found["issuer"] == auth.issuer == f"{auth.origin}/tenants/acme"
    others = {OAUTH, OIDC, f"{OAUTH}/tenants/acme", f"{OIDC}/tenants/acme", f"/tenants/acme{OIDC}"} - {place}
    assert {http.get(f"{auth.origin}{other}").status_code for other in others} == {404}
    assert sign_in(auth, http, register(auth, http)["client_id"])["access_token"]
    assert auth.count("/token", grant_type="authorization_code") == 1


@pytest.mark.parametrize("hostile", ["huge", "deep", "html", "redirect", "not_json", "private_endpoint"])
def test_metadata_may_be_hostile(
    authorization_server: StartAuthorizationServer, http: httpx2.Client, hostile: str
) -> None:
    auth = authorization_server(hostile=hostile)
    with http.stream("GET", f"{auth.origin}{OAUTH}") as answer:
        assert answer.status_code == (302 if hostile == "redirect" else 200)
    if hostile == "private_endpoint":
        assert http.get(f"{auth.origin}{OAUTH}").json()["token_endpoint"].startswith("http://169.254.169.254")


def test_metadata_may_lack_pkce_or_name_another_issuer(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(pkce=False, metadata_issuer="wrong")
    found = http.get(f"{auth.origin}{OAUTH}").json()
    assert "code_challenge_methods_supported" not in found
    assert found["issuer"] != auth.issuer
    auth.metadata = "none"
    assert http.get(f"{auth.origin}{OAUTH}").status_code == 404


# --- what comes back from the person ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iss", "advertised", "sent"),
    [
        ("right", True, "{}"),
        ("wrong", True, "https://elsewhere.example"),
        ("absent", None, None),
        ("absent_but_advertised", True, None),
    ],
)
def test_the_issuer_in_the_answer(
    authorization_server: StartAuthorizationServer, http: httpx2.Client, iss: str, advertised: bool, sent: str | None
) -> None:
    auth = authorization_server(iss=iss)
    found = http.get(f"{auth.origin}{OAUTH}").json()
    assert found.get("authorization_response_iss_parameter_supported") is advertised
    client_id = register(auth, http)["client_id"]
    expected = sent and sent.format(auth.issuer)
    assert come_back(approve(asking(auth, client_id))).get("iss") == expected
    auth.deny = True
    refusal = come_back(approve(asking(auth, client_id)))
    assert (refusal["error"], refusal["state"], refusal.get("iss")) == ("access_denied", "xyz", expected)


def test_a_person_allows_or_denies_on_a_page(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    auth = authorization_server(consent="page")
    client_id = register(auth, http)["client_id"]
    page = http.get(asking(auth, client_id, scope="read"), follow_redirects=True)
    assert "Allow access?" in page.text
    assert come_back(approve(asking(auth, client_id)))["code"]
    refusal = come_back(approve(asking(auth, client_id), decision="deny"))
    assert refusal == {"error": "access_denied", "state": "xyz", "iss": auth.issuer}


def test_a_mix_up_brings_the_code_of_another_server(
    authorization_server: StartAuthorizationServer, http: httpx2.Client
) -> None:
    honest = authorization_server()
    attacker = authorization_server(mixes_up_with=honest)
    register(honest, http)
    client_id = register(attacker, http)["client_id"]
    answer = come_back(approve(asking(attacker, client_id)))
    assert (answer["iss"], answer["state"]) == (honest.issuer, "xyz")
    assert exchange(attacker, http, client_id, answer["code"]).status_code == 400
