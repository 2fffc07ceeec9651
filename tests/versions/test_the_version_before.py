"""The version before on the database of this one: its own tests of calls, checks and sign-ins pass there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from duvo import stack
from tests.servers import postgres
from tests.versions import previous

ITS_TESTS = [
    "tests/tools/calls/test_life_of_a_call.py",
    "tests/tools/catalog/test_probing.py",
    "tests/oauth/test_callback.py",
]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Versions run side by side on PostgreSQL only.")
def test_its_own_tests_pass_on_the_migrated_database(tmp_path: Path) -> None:
    if why_not := previous.unpack(tmp_path):
        pytest.skip(why_not)
    with postgres.cluster() as cluster:
        server = cluster.url.rpartition("/")[0]
        with psycopg.connect(cluster.url, autocommit=True) as database:
            database.execute("CREATE DATABASE test_duvo")
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        environment = os.environ | {"DATABASE_URL": f"{server}/test_duvo"}
        subprocess.run(migrate, cwd=stack.BASE_DIR, env=environment, check=True, timeout=300)
        own = {"PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "REDIS_URL", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"}
        environment = {name: value for name, value in os.environ.items() if name not in own}
        tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--reuse-db"]
        ran = subprocess.run(
            [*tests, *ITS_TESTS], cwd=tmp_path, env=environment | {"DATABASE_URL": cluster.url},
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout[-5000:]
        assert " passed" in ran.stdout
