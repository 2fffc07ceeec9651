"""What happens to a sign-in while the provider renews its token: the token that comes back late revives nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager

import pytest
from django.utils import timezone

from connections import egress
from oauth import refreshing
from oauth.models import SignIn
from tests.oauth.conftest import Scene, StartScene
from tests.oauth.test_refreshing import ready


@contextmanager
def renewing(scene: Scene) -> Iterator[SignIn]:
    """Whatever is done inside happens while the provider has renewed the token and not yet answered."""
    row = scene.sign_in_row
    scene.auth.hold_tokens(taken=True)
    work = egress.submit(refreshing.renew(row.pk, row.generation, of=row.connection.tenant_id))
    try:
        scene.auth.wait_until_held()
        yield row
    finally:
        scene.auth.release_tokens()
        wait([work])


@pytest.mark.parametrize("because", ["issuer_changed", "client_forgotten"])
def test_a_renewal_under_way_revives_no_sign_in_that_has_ended(scene: StartScene, because: str) -> None:
    scene = ready(scene())
    with renewing(scene) as row:
        assert row.end(because, timezone.now())
    after = scene.sign_in_row
    assert (after.ended_because, after.sealed, after.generation) == (because, "", row.generation)
    assert len(scene.auth.revoked) == 1


def test_a_refusal_of_what_the_renewal_under_way_replaces_ends_nothing(scene: StartScene) -> None:
    scene = ready(scene())
    with renewing(scene) as row:
        assert row.end("sign_in_revoked", timezone.now())  # by a process whose lease ran out
    after = scene.sign_in_row
    assert (after.ended_at, after.ended_because, after.generation) == (None, "", row.generation + 1)
    assert scene.auth.revoked == []


def test_who_signs_out_during_a_renewal_leaves_no_token_at_the_provider(scene: StartScene) -> None:
    scene = ready(scene(rotate=True))
    with renewing(scene):
        scene.press("sign-out")
    assert not SignIn.objects.exists()
    assert scene.auth.refresh_tokens == scene.auth.access_tokens == []


def test_who_signs_in_anew_during_a_renewal_keeps_the_new_sign_in(scene: StartScene) -> None:
    scene = ready(scene(rotate=True))
    with renewing(scene) as row:
        SignIn.objects.filter(pk=row.pk).delete()
        row.pk = None
        row.save(force_insert=True)
    assert scene.auth.revoked == []
