"""The spellings of DATABASE_URL: which database, server and password Django is told of."""

from __future__ import annotations

import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duvo.variables import POSTGRESQL, SQLITE, Env, Unusable

SERVER = {"ENGINE": POSTGRESQL, "USER": "duvo", "HOST": "db", "NAME": "duvo"}


def read(address: str) -> dict[str, Any]:
    """Return what is not empty of what the address says."""
    database = Env({"DATABASE_URL": address}, DATABASE_URL=(str, "")).db_url("DATABASE_URL")
    return {name: value for name, value in database.items() if value}


@pytest.mark.parametrize(
    ("address", "database"),
    [
        ("postgresql://duvo@db/duvo", SERVER),
        ("postgres://duvo@db/duvo", SERVER),
        ("pgsql://duvo@db/duvo", SERVER),
        ("POSTGRESQL://duvo@DB/duvo", SERVER),
        ("postgresql://duvo:pw@db:5433/duvo", SERVER | {"PASSWORD": "pw", "PORT": 5433}),
        ("postgresql://du%40vo@db/duvo", SERVER | {"USER": "du@vo"}),
        ("postgresql://duvo@db/du+vo", SERVER | {"NAME": "du+vo"}),
        ("postgresql://duvo@db/my%2Fown%20one", SERVER | {"NAME": "my/own one"}),
        # servers
        ("postgresql:///duvo", {"ENGINE": POSTGRESQL, "NAME": "duvo"}),
        ("postgresql://duvo@/duvo", {"ENGINE": POSTGRESQL, "USER": "duvo", "NAME": "duvo"}),
        ("postgresql://duvo@[::1]:5433/duvo", SERVER | {"HOST": "::1", "PORT": 5433}),
        ("postgresql://duvo@[fe80::1%25eth0]/duvo", SERVER | {"HOST": "fe80::1%eth0"}),
        ("postgresql://duvo@a:5432,b:5433/duvo", SERVER | {"HOST": "a,b", "PORT": "5432,5433"}),
        ("postgresql://duvo@%2Frun%2FPostgreSQL/duvo", SERVER | {"HOST": "/run/PostgreSQL"}),
        ("postgresql://duvo@%2Frun%2Fa%2Bb:5433/duvo", SERVER | {"HOST": "/run/a+b", "PORT": 5433}),
        ("postgresql:///duvo?host=/run/pg", {"ENGINE": POSTGRESQL, "NAME": "duvo", "OPTIONS": {"host": "/run/pg"}}),
        ("postgresql:////run/pg/duvo", {"ENGINE": POSTGRESQL, "NAME": "duvo", "HOST": "/run/pg"}),
        # options
        (
            "postgresql://duvo@db/duvo?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&keepalives=1",
            SERVER | {"OPTIONS": {"sslmode": "verify-full", "sslrootcert": "/etc/ca.pem", "keepalives": 1}},
        ),
        ("postgresql://duvo@db/duvo?sslmode=", SERVER),
        ("postgresql://duvo@db/duvo?server_side_binding=false", SERVER | {"OPTIONS": {"server_side_binding": False}}),
        ("postgresql://duvo@db/duvo?currentSchema=own", SERVER | {"OPTIONS": {"options": "-c search_path=own"}}),
        (
            "postgresql://duvo@db/duvo?currentSchema=own&options=-c%20jit%3Doff",
            SERVER | {"OPTIONS": {"options": "-c search_path=own -c jit=off"}},
        ),
        (
            "postgresql://duvo:p%40ss@db?service=own",
            {"ENGINE": POSTGRESQL, "USER": "duvo", "PASSWORD": "p@ss", "HOST": "db", "OPTIONS": {"service": "own"}},
        ),
        # files
        ("sqlite:///:memory:", {"ENGINE": SQLITE, "NAME": ":memory:"}),
        ("sqlite://:memory:", {"ENGINE": SQLITE, "NAME": ":memory:"}),
        ("sqlite://", {"ENGINE": SQLITE, "NAME": ":memory:"}),
        ("sqlite:///relative.sqlite3", {"ENGINE": SQLITE, "NAME": "relative.sqlite3"}),
        ("sqlite:///var/duvo.sqlite3", {"ENGINE": SQLITE, "NAME": "var/duvo.sqlite3"}),
        ("sqlite:////srv/duvo.sqlite3", {"ENGINE": SQLITE, "NAME": "/srv/duvo.sqlite3"}),
        ("sqlite:////srv/cloudsql/duvo.sqlite3", {"ENGINE": SQLITE, "NAME": "/srv/cloudsql/duvo.sqlite3"}),
        ("sqlite:////srv/c++%20$HOME#1.sqlite3", {"ENGINE": SQLITE, "NAME": "/srv/c++ $HOME#1.sqlite3"}),
    ],
)
def test_an_address_is_read(address: str, database: dict[str, Any]) -> None:
    assert read(address) == database


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("p%40ss%23%2F%3F", "p@ss#/?"), ("p@ss", "p@ss"), ("p#ss", "p#ss"), ("p%40#ss", "p@#ss"), ("p+ss", "p+ss"),
        ("p%2Bss", "p+ss"), ("$ecret", "$ecret"), ("p$HOME", "p$HOME"), ("p[s]s", "p[s]s"), ("p%40[s", "p@[s"),
        ("p:s:s", "p:s:s"), ("100%", "100%"), ("100%25", "100%"), ("p%20s s", "p s s"), ("pä%C3%A4", "pää"),
        (r"p\$ss", r"p\$ss"), ("p&s=s;s,s!", "p&s=s;s,s!"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rest", ["@db/duvo", "@db:5433/duvo?sslmode=require", "@[::1]/duvo", "@db"])
def test_a_password_is_read(written: str, password: str, rest: str) -> None:
    assert read(f"postgresql://duvo:{written}{rest}")["PASSWORD"] == password


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_password_can_be_written(password: str) -> None:
    assert read(f"postgresql://duvo:{quote(password, safe='')}@db/duvo") == SERVER | {"PASSWORD": password}


@pytest.mark.parametrize(
    "address",
    [
        "", "hunter2", "/srv/hunter2.sqlite3", "//duvo:hunter2@db/duvo", "https://duvo:hunter2@db/duvo",
        "mysql://duvo:hunter2@db/duvo", "postgresql://duvo:hunter2", "postgresql://duvo:hunter2/x@db/duvo",
        "postgresql://duvo:hunter2?x@db/duvo", "postgresql://duvo:hunter2@db:port/duvo",
        "postgresql://duvo:hunter2@[db/duvo", "postgresql://duvo@db:99999/hunter2", "sqlite://hunter2/duvo.sqlite3",
    ],
)  # fmt: skip
def test_another_address_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(Unusable) as fault:
        read(address)
    assert "is not an address such as postgresql://" in str(fault.value)
    assert "hunter2" not in "".join(traceback.format_exception(fault.value))
