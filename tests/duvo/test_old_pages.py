"""A form that lay open while its person signed in anew in another tab is refused in words, and leads on."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.conftest import PASSWORD, House

pytestmark = pytest.mark.django_db


def test_a_form_from_before_a_sign_in_is_refused_in_words(acme: House) -> None:
    browser = Client(enforce_csrf_checks=True)
    path = "/admin/tools/assignment/add/"
    browser.force_login(acme.admin)
    browser.get(path)
    old = browser.cookies["csrftoken"].value
    browser.logout()
    browser.get("/admin/login/")
    new = browser.cookies["csrftoken"].value
    entered = {"username": acme.admin.username, "password": PASSWORD, "csrfmiddlewaretoken": new}
    assert browser.post("/admin/login/", entered).status_code == 302
    answer = browser.post(path, {"name": "Typed before", "csrfmiddlewaretoken": old})
    text = answer.content.decode()
    assert answer.status_code == 403
    assert "Nothing was changed" in text
    assert f'href="{path}"' in text
    assert "DEBUG" not in text
    assert not acme.tenant.assignments.exists()
    again = browser.post("/admin/login/", entered)
    assert "Open it again" not in again.content.decode(), "it leads to the start, where one is by now"


def test_who_was_signed_out_meanwhile_is_told_that_nothing_was_changed(acme: House) -> None:
    answer = Client().post("/admin/tools/assignment/add/", {"name": "Typed before"}, follow=True)
    text = answer.content.decode()
    assert answer.redirect_chain == [("/admin/login/?next=/admin/tools/assignment/add/", 302)]
    assert "You were signed out meanwhile, so nothing was changed." in text
    assert not acme.tenant.assignments.exists()
    assert "signed out meanwhile" not in Client().get("/admin/tools/assignment/add/", follow=True).content.decode()
