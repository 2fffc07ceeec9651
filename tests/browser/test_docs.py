"""The API's documentation in a real browser, under the same Content-Security-Policy as every page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [1280, 375])
def test_the_documentation_shows_every_operation_and_breaks_no_rule(
    visit: Visit, live_server_url: str, tmp_path: Path, width: int
) -> None:
    visitor = visit(None, width=width)
    answer = visitor.open("/v1/docs")
    assert answer is not None
    assert answer.status == 200
    assert "unsafe" not in answer.headers["content-security-policy"]
    operations = visitor.page.locator(".opblock")
    operations.first.wait_for()
    described = sum(
        len(methods) for methods in visitor.page.request.get(f"{live_server_url}/v1/schema").json()["paths"].values()
    )
    operations.nth(described - 1).wait_for()
    assert operations.count() == described
    call = visitor.page.locator("#operations-tools-tools_call")
    call.locator(".opblock-summary-control").click()
    call.locator(".opblock-body").wait_for()
    assert "respond-async" in call.inner_text()
    visitor.shoot(f"docs-{width}", tmp_path)
    assert visitor.complaints == []
