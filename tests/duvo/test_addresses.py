"""Requests that come past the proxy, or through one that is not believed."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from connections import checks

FOREIGN = {"Host": "10.1.2.3:8000"}


@pytest.fixture(autouse=True)
def _in_production(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT, settings.SECURE_PROXY_SSL_HEADER = True, None
    settings.ALLOWED_HOSTS, settings.METRICS_TOKEN = ["duvo.example.com"], "m" * 40


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/metrics", 401)])
def test_health_is_told_whatever_name_it_is_asked_by(path: str, status: int) -> None:
    assert Client().get(path, headers=FOREIGN).status_code == status


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/login/", "/v1/tools", "/healthz/x"])
def test_nothing_else_is(path: str) -> None:
    assert Client(raise_request_exception=False).get(path, headers=FOREIGN).status_code == 400


@pytest.mark.django_db
def test_a_redirect_loop_behind_a_proxy_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    browser = Client(headers={"Host": "duvo.example.com", "X-Forwarded-Proto": "https"})
    for _ in range(3):
        assert browser.get("/admin/login/").status_code == 301
    assert caplog.text.count("set TRUST_FORWARDED_PROTO=true") == 1
    assert [warning.id for warning in checks.the_proxy_is_believed()] == ["connections.W004"]


@pytest.mark.django_db
def test_a_proxy_that_is_believed_is_not_spoken_of(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    answer = Client(headers={"Host": "duvo.example.com", "X-Forwarded-Proto": "https"}).get("/admin/login/")
    assert answer.status_code == 200
    assert "TRUST_FORWARDED_PROTO" not in caplog.text
    assert checks.the_proxy_is_believed() == []
