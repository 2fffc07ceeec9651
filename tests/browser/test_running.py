"""What every page shows while something does not run, to staff and to an organization: readable and accessible."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone
from playwright.sync_api import expect
from redis import Redis

from connections import heartbeats
from connections.models import User
from tests.browser.conftest import Visit
from tests.conftest import PASSWORD, House

pytestmark = pytest.mark.browser


@pytest.fixture
def _stopped(transactional_db: None) -> Iterator[None]:
    """Checks stopped nine minutes ago, and no worker has ever made a queued call."""
    with Redis.from_url(settings.REDIS_URL) as client:
        before = client.hgetall(heartbeats.HASH)
        client.delete(heartbeats.HASH)
        for name in ("beat", "housekeeping"):
            heartbeats.note_quickly(name)
        heartbeats.note_quickly("probes", timezone.now() - timedelta(minutes=9))
        heartbeats.seen.cache_clear()
        yield
        client.hset(heartbeats.HASH, mapping=before)
    heartbeats.seen.cache_clear()


@pytest.mark.usefixtures("_stopped")
@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (375, "dark"), (1280, "dark"), (375, "light")])
def test_everybody_reads_what_has_stopped_in_words_of_their_own(
    acme: House, visit: Visit, width: int, colours: str, tmp_path: Path
) -> None:
    late = acme.connection("Stock", reachability_state="reachable", tools_state="in_sync")
    type(late).objects.update(next_probe_at=timezone.now() - timedelta(minutes=9))
    root = User.objects.create_superuser("root@duvo.example", "root@duvo.example", PASSWORD)
    for person, words in ((acme.admin, "are not checked"), (root, "probes: no sign of life since")):
        visitor = visit(person, width=width, colours=colours)
        visitor.open("/admin/")
        expect(visitor.page.get_by_role("alert")).to_contain_text(words)
        expect(visitor.page.get_by_role("heading", name="Checks are overdue")).to_be_visible()
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
        visitor.shoot(f"start-{person.username}", tmp_path)
        assert visitor.complaints == []
        assert visitor.violations() == []
        visitor.complaints.clear()
        visitor.open(f"/admin/connections/connection/{late.pk}/change/")
        expect(visitor.page.get_by_text("The check is overdue: it should have begun 9 minutes ago")).to_be_visible()
        visitor.shoot(f"connection-{person.username}", tmp_path)
