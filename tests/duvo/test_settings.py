"""The product starts only with settings that make sense, and says which do not."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import pytest
from django.core.exceptions import ImproperlyConfigured

from connections import checks
from duvo import stack, variables
from duvo.databases import CLOCKS_OF_A_CONNECTION
from duvo.environment import SCHEME, Environment, read_environment

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "SECRET_KEY": "k" * 50,
    "SEAL_KEYS": base64.urlsafe_b64encode(b"s" * 32).decode(),
    "PUBLIC_URL": "https://duvo.example.com",
    "DATABASE_URL": "postgresql://duvo@db.example.com/duvo",
}


@pytest.fixture
def env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where `.env` would lie, in place of a developer's own."""
    monkeypatch.setattr("duvo.environment.ENV_FILE", tmp_path / ".env")
    monkeypatch.delenv("ENV_FILE", raising=False)
    return tmp_path / ".env"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, env_file: Path) -> Callable[..., Environment]:
    """Read the settings from good values with these changes; None leaves a value out."""

    def read(**changes: str | None) -> Environment:
        for name in SCHEME:
            monkeypatch.delenv(name, raising=False)
        for name, value in {**GOOD, **changes}.items():
            if value is not None:
                monkeypatch.setenv(name, value)
        return read_environment()

    return read


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The product without a developer's `.env`, and without what `make up` has left in `var/`."""
    (tmp_path / "manage.py").write_bytes((ROOT / "manage.py").read_bytes())
    for room in ("duvo", "tools", "oauth", "connections"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "static"))
    return tmp_path


def test_a_process_without_settings_does_not_start_and_names_each(copy: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "manage.py", "migrate"],
        env={"PATH": os.environ["PATH"]}, cwd=copy, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert outcome.returncode != 0
    assert len(outcome.stderr.splitlines()) == 1
    assert all(name in outcome.stderr for name in ("SECRET_KEY", "SEAL_KEYS", "PUBLIC_URL"))


def database_options(copy: Path, address: str, **more: str) -> dict[str, Any]:
    printing = "import json; from duvo.settings import DATABASES as all; "
    printing += "print(json.dumps(all['default']['OPTIONS'], default=str))"
    printed = subprocess.run(
        [sys.executable, "-c", printing],
        env={"PATH": os.environ["PATH"], **GOOD, "DATABASE_URL": address, **more},
        cwd=copy, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return dict(json.loads(printed.stdout))


def test_what_the_address_of_the_database_asks_for_is_kept(copy: Path) -> None:
    options = database_options(copy, "postgres://duvo@db.example.com/duvo?sslmode=verify-full&options=-c%20jit%3Doff")
    assert options.keys() - CLOCKS_OF_A_CONNECTION == {"options", "pool", "prepare_threshold", "sslmode"}
    assert options["options"] == "-c statement_timeout=30s -c lock_timeout=10s -c jit=off"


def test_the_clocks_of_the_database_are_settings_and_can_be_left_to_others(copy: Path) -> None:
    address = "postgres://duvo@db.example.com/duvo"
    chosen = {"DATABASE_STATEMENT_TIMEOUT": "60", "DATABASE_LOCK_TIMEOUT": "0"}
    assert database_options(copy, address, **chosen)["options"] == "-c statement_timeout=60s"
    none = {"DATABASE_STATEMENT_TIMEOUT": "0", "DATABASE_LOCK_TIMEOUT": "0"}
    assert "options" not in database_options(copy, address, **none)  # a PgBouncer refuses this parameter


def test_commands_take_their_time_and_servers_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for command, clock in (("migrate", "0"), ("rotate_seals", "0"), ("runserver", "30")):
        monkeypatch.setenv("DATABASE_STATEMENT_TIMEOUT", "30")
        monkeypatch.setenv("DATABASE_LOCK_TIMEOUT", "10")
        stack.prepare(["manage.py", command])
        assert os.environ["DATABASE_STATEMENT_TIMEOUT"] == clock


def test_good_settings_start_and_the_public_url_decides_the_host(start: Callable[..., Environment]) -> None:
    environment = start()
    assert environment.allowed_hosts == ["duvo.example.com"]
    assert not environment.debug


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SECRET_KEY": None}, "SECRET_KEY is missing"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY is shorter than 32 characters"),
        ({"SECRET_KEY": "django-insecure-" + "x" * 40}, "SECRET_KEY is a default that everybody knows"),
        ({"SECRET_KEY": "debug-only-secret-key-that-no-production-may-use"}, "SECRET_KEY is a default"),
        ({"SECRET_KEY_FALLBACKS": f"{'f' * 40},short"}, "SECRET_KEY_FALLBACKS has a key that is shorter than 32"),
        ({"SEAL_KEYS": None}, "SEAL_KEYS is missing"),
        ({"SEAL_KEYS": "c2hvcnQ="}, "key 1 is shorter than 32 bytes"),
        ({"SEAL_KEYS": "ZGVidWctb25seS1zZWFsLWtleS1ub3QtZm9yLXByb2Q="}, "SEAL_KEYS holds a default"),
        ({"PUBLIC_URL": None}, "PUBLIC_URL is missing"),
        ({"PUBLIC_URL": "duvo.example.com"}, "PUBLIC_URL=duvo.example.com is not a web address"),
        (
            {"PUBLIC_URL": "https://duvo.example.com/duvo"},
            "example.com/duvo has something after its host",
        ),
        ({"PUBLIC_URL": "https://duvo.example.com?x=1"}, "has something after its host"),
        ({"PUBLIC_URL": "https://duvo.example.com:99999"}, "is not a web address"),
        ({"PUBLIC_URL": "https://x:hunter2@duvo.example.com"}, "PUBLIC_URL is not a web address"),
        ({"PUBLIC_URL": "http://duvo.example.com"}, "PUBLIC_URL=http://duvo.example.com must begin with https://"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS=* has a wildcard"),
        ({"ALLOWED_HOSTS": "duvo.example.com,.example.com"}, "example.com has a wildcard"),
        ({"ALLOWED_HOSTS": "other.example.com"}, "lacks the host of PUBLIC_URL, duvo.example.com"),
        ({"ALLOWED_HOSTS": "duvo.example.com:8000"}, "has a fault: entry 1 is not the name of a host, without scheme"),
        ({"ALLOWED_HOSTS": "https://duvo.example.com"}, "has a fault: entry 1 is not the name of a host"),
        ({"DEBUG": "perhaps"}, "DEBUG=perhaps is neither true nor false"),
        ({"PROBE_INTERVAL": "often"}, "PROBE_INTERVAL=often is not a whole number from 1 to 86400"),
        ({"PROBE_INTERVAL": "0"}, "PROBE_INTERVAL=0 is not a whole number from 1 to 86400"),
        ({"CALL_LEASE": "0"}, "CALL_LEASE=0 is not a whole number from 2 to 3600"),
        ({"CALL_LEASE": "-30"}, "CALL_LEASE=-30 is not a whole number"),
        ({"DATABASE_POOL_SIZE": "0"}, "DATABASE_POOL_SIZE=0 is not a whole number from 1 to 1000"),
        ({"DATABASE_URL": None}, "DATABASE_URL is missing or SQLite, which is for trying out on one machine"),
        ({"DATABASE_URL": "sqlite:////srv/duvo.sqlite3"}, "DATABASE_URL is missing or SQLite"),
        ({"DATABASE_URL": "mysql://duvo:hunter2@db/duvo"}, "DATABASE_URL is not an address such as postgresql://"),
        ({"EGRESS_CA_FILE": "/no/such/file"}, "EGRESS_CA_FILE=/no/such/file is not a file that can be read"),
        ({"EGRESS_CA_FILE": str(Path(__file__))}, "and holds certificates in PEM"),
        ({"RESULT_FOLDER": "/no/such/folder"}, "RESULT_FOLDER=/no/such/folder is not a folder that exists"),
        ({"RESULT_FOLDER": str(Path(__file__))}, "is not a folder that exists and that this process may write into"),
        ({"HEARTBEAT_FILE": "/no/such/folder/x"}, "HEARTBEAT_FILE=/no/such/folder/x is not a file"),
        ({"EGRESS_ALLOWED_PORTS": "443,70000"}, "entry 2 is not a whole number from 1 to 65535"),
        ({"EMAIL_PORT": "0"}, "EMAIL_PORT=0 is not a whole number from 1 to 65535"),
        (
            {"EMAIL_HOST": "smtp://mail.example.com:25"},
            "mail.example.com:25 is not the name of a host",
        ),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT=xml is none of json, text"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL=LOUD is none of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ({"OAUTH_CLIENT_METADATA_URL": "duvo.example.com/client.json"}, "is not the web address of a document"),
        ({"OAUTH_CLIENT_METADATA_URL": "https://duvo.example.com"}, "is not the web address of a document"),
        ({"SEALKEY": "x"}, "Unknown setting SEALKEY: did you mean SEAL_KEYS?"),
        ({"SEAL_KEY": "x"}, "Unknown setting SEAL_KEY: did you mean SEAL_KEYS?"),
        ({"SECRETKEY": "x"}, "Unknown setting SECRETKEY: did you mean SECRET_KEY?"),
        ({"REDISURL": "x"}, "Unknown setting REDISURL: did you mean REDIS_URL?"),
        ({"ALLOWED_HOST": "x"}, "Unknown setting ALLOWED_HOST: did you mean ALLOWED_HOSTS?"),
        ({"SEAL_KEYS": GOOD["SEAL_KEYS"][:-2] + "="}, "it has 43 characters, where a key of 256 bits has 44"),
        ({"SEAL_KEYS": GOOD["SEAL_KEYS"].replace("N", "!", 1)}, "key 1 is not URL-safe base64"),
        ({"SEAL_KEYS": f"{GOOD['SEAL_KEYS']},{GOOD['SEAL_KEYS'][1:]}"}, "SEAL_KEYS has a fault: key 2 is not"),
        ({"REDIS_URL": "cache.example.com:6379"}, "REDIS_URL is not an address such as redis://"),
        ({"REDIS_URL": "redis://"}, "REDIS_URL is not an address"),
        ({"REDIS_URL": "redis://cache:99999/0"}, "REDIS_URL is not an address"),
        ({"REDIS_URL": "redis://cache/main"}, "REDIS_URL is not an address"),
        ({"EGRESS_ALLOWED_NETWORKS": "10.0.0.0/99"}, "EGRESS_ALLOWED_NETWORKS=10.0.0.0/99 has a fault: entry 1 is not"),
        ({"TRUSTED_PROXIES": "proxy.example.com"}, "TRUSTED_PROXIES=proxy.example.com has a fault"),
        ({"DATABSE_URL": "sqlite:///x"}, "Unknown setting DATABSE_URL: did you mean DATABASE_URL?"),
        ({"EMAIL_PORT": "smtp"}, "EMAIL_PORT"),
        ({"DATABASE_LOCK_TIMEOUT": "-1"}, "DATABASE_LOCK_TIMEOUT"),
        ({"DATABASE_STATEMENT_TIMEOUT": "long"}, "DATABASE_STATEMENT_TIMEOUT"),
        ({"EMAIL_HOST_USR": "x"}, "Unknown setting EMAIL_HOST_USR: did you mean EMAIL_HOST_USER?"),
        ({"DEFAULT_FROM_EMAIL": "duvo"}, "DEFAULT_FROM_EMAIL=duvo is not an address"),
        ({"DEFAULT_FROM_EMAIL": "duvo@example.com\nBcc: x@example.com"}, "DEFAULT_FROM_EMAIL is not an address"),
        ({"PUBLIC_ULR": "https://x"}, "Unknown setting PUBLIC_ULR: did you mean PUBLIC_URL?"),
        (
            {"EGRESS_ALLOWED_PORTS": "443,https"},
            "PORTS=443,https has a fault: entry 2 is not a whole",
        ),
        ({"SEAL_KEYS": "a"}, "SEAL_KEYS has a fault: key 1 is not URL-safe base64"),
        ({"PUBLIC_URL": "https://[duvo"}, "PUBLIC_URL=https://[duvo is not a web address"),
        ({"REDIS_URL": "http://cache.example.com"}, "REDIS_URL is not an address"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is missing or SQLite"),
        ({"SECRET_KEY": " " * 40}, "SECRET_KEY is missing: `manage.py new_env` prints one"),
        ({"SECRET_KEY_FALLBACKS": "debug-only-secret-key-that-no-production-may-use"}, "FALLBACKS holds a default"),
        ({"SEAL_KEYS": None}, "SEAL_KEYS is missing: make one with `manage.py make_seal_key`"),
        ({"SEAL_KEYS": ","}, "SEAL_KEYS has nothing but commas"),
        ({"PUBLIC_URL": None}, "PUBLIC_URL is missing: say where people reach the product, such as https://"),
        ({"PUBLIC_URL": "ftp://duvo.example.com"}, "PUBLIC_URL=ftp://duvo.example.com is not a web address"),
        ({"PUBLIC_URL": "https://*.example.com"}, "PUBLIC_URL=https://*.example.com is not a web address"),
        ({"PUBLIC_URL": "https://duvo..example.com"}, "PUBLIC_URL=https://duvo..example.com is not a web address"),
        ({"PUBLIC_URL": "https://-duvo.example.com"}, "PUBLIC_URL=https://-duvo.example.com is not a web address"),
        ({"PUBLIC_URL": "https://düvo.example.com"}, "PUBLIC_URL=https://düvo.example.com is not a web address"),
        ({"PUBLIC_URL": "https://duvo.example.com\\x"}, r"PUBLIC_URL=https://duvo.example.com\x is not a web address"),
        ({"PUBLIC_URL": "https://<duvo.example.com>"}, "PUBLIC_URL=https://<duvo.example.com> is not a web address"),
        ({"PUBLIC_URL": "HTTP://duvo.example.com"}, "PUBLIC_URL=HTTP://duvo.example.com must begin with https://"),
        ({"ALLOWED_HOSTS": ","}, "ALLOWED_HOSTS=, has nothing but commas"),
        ({"ALLOWED_HOSTS": "duvo.example.com,[1:2]"}, "has a fault: entry 2 is not the name of a host"),
        ({"ALLOWED_HOSTS": f"duvo.example.com,{'a' * 64}"}, "has a fault: entry 2 is not the name of a host"),
        ({"DATABASE_URL": "postgresql://duvo@db.example.com"}, "DATABASE_URL names no database: postgresql://"),
        ({"DATABASE_URL": "postgresql://"}, "DATABASE_URL names no database"),
        ({"DATABASE_URL": "postgresql://duvo@db/duvo?sslmod=require"}, "is unknown: did you mean sslmode?"),
        ({"DATABASE_URL": "postgresql://duvo:7?hunter2=x@db/duvo"}, "DATABASE_URL names no database"),
        ({"DATABASE_URL": "postgresql://duvo@db/duvo?pool=false"}, "DATABASE_URL has an option after its ? that is"),
        ({"DATABASE_URL": "postgresql://duvo@db/duvo?sslmode=verify"}, "has an sslmode that is none of disable, allow"),
        ({"DATABASE_URL": "postgresql://duvo@db/duvo?connect_timeout=soon"}, "a connect_timeout that is not a whole"),
        ({"DATABASE_URL": "postgresql://duvo@db/duvo?sslrootcert=/no/such/file"}, "a sslrootcert that is not a file"),
        ({"DATABASE_POOL_SIZE": "1_0"}, "DATABASE_POOL_SIZE=1_0 is not a whole number from 1 to 1000"),
        ({"CALL_LEASE": "٣٠"}, "CALL_LEASE=٣٠ is not a whole number from 2 to 3600"),
        ({"CALL_LEASE": "30s"}, "CALL_LEASE=30s is not a whole number from 2 to 3600"),
        ({"REDIS_URL": "redis://:hunter2#w@cache/0"}, "write /, ? and # in a password as %2F, %3F and %23"),
        ({"REDIS_URL": "redis://ca che/0"}, "REDIS_URL is not an address"),
        ({"REDIS_URL": "redis://cache/0?socket_timeout=soon"}, "REDIS_URL has an option after its ? that is unknown"),
        ({"REDIS_URL": "redis://cache/0?hunter2=1"}, "REDIS_URL has an option after its ? that is unknown"),
        ({"REDIS_URL": "redis://cache/0?ssl_cert_reqs=required"}, "REDIS_URL has an option after its ? that is"),
        ({"REDIS_URL": "rediss://cache/0?ssl_cert_reqs=maybe"}, "REDIS_URL has an option after its ? that is unknown"),
        ({"REDIS_URI": "x"}, "Unknown setting REDIS_URI: did you mean REDIS_URL?"),
        ({"TRUSTED_PROXIES": "0.0.0.0/0"}, "TRUSTED_PROXIES=0.0.0.0/0 has a fault: entry 1 is every address there is"),
        ({"EGRESS_ALLOWED_NETWORKS": "10.0.0.0/8,::/0"}, "has a fault: entry 2 is every address there is; name your"),
        ({"EGRESS_ALLOWED_PORTS": ","}, "EGRESS_ALLOWED_PORTS=, has nothing but commas"),
        (
            {"OAUTH_CLIENT_METADATA_URL": "http://www.example.com/duvo.json"},
            "duvo.json must begin with https://",
        ),
        (
            {"OAUTH_CLIENT_METADATA_URL": "https://www.example.com/a/../duvo.json"},
            "is not the web address of a document",
        ),
        ({"METRICS_TOKEN": "hunter2 hunter2"}, "METRICS_TOKEN has a space or a character that no header carries"),
        ({"METRICS_TOKEN": "hüntér2"}, "METRICS_TOKEN has a space or a character that no header carries"),
        ({"EMAIL_HOST": "*"}, "EMAIL_HOST=* is not the name of a host"),
        ({"EMAIL_HOST": ".example.com"}, "EMAIL_HOST=.example.com is not the name of a host"),
        ({"EMAIL_HOST_USER": "ada"}, "EMAIL_HOST_USER=ada has no EMAIL_HOST_PASSWORD beside it: who signs in needs"),
        ({"EMAIL_HOST_PASSWORD": "hunter2"}, "EMAIL_HOST_PASSWORD has no EMAIL_HOST_USER beside it"),
        ({"DEFAULT_FROM_EMAIL": "@"}, "DEFAULT_FROM_EMAIL is not an address such as Duvo <duvo@example.com>"),
        ({"DEFAULT_FROM_EMAIL": "duvo@"}, "DEFAULT_FROM_EMAIL is not an address"),
        ({"DEFAULT_FROM_EMAIL": "Duvo <duvo@example.com"}, "DEFAULT_FROM_EMAIL is not an address"),
        ({"DEFAULT_FROM_EMAIL": "Duvo duvo@example.com"}, "DEFAULT_FROM_EMAIL is not an address"),
        ({"DEFAULT_FROM_EMAIL": "a@example.com, b@example.com"}, "DEFAULT_FROM_EMAIL is not an address"),
    ],
)
def test_bad_settings_do_not_start_and_are_named(
    start: Callable[..., Environment], changes: dict[str, str | None], sentence: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(sentence)) as fault:
        start(**changes)
    assert len(str(fault.value).splitlines()) == 1
    assert "hunter2" not in str(fault.value)


def test_no_fault_repeats_the_secret_it_speaks_of(start: Callable[..., Environment]) -> None:
    with pytest.raises(ImproperlyConfigured) as fault:
        start(SECRET_KEY="hunter2", SEAL_KEYS="aHVudGVyMg==")
    assert "hunter2" not in str(fault.value)
    assert "aHVudGVyMg" not in str(fault.value)


def test_all_faults_come_in_one_message(start: Callable[..., Environment]) -> None:
    with pytest.raises(ImproperlyConfigured) as fault:
        start(SECRET_KEY=None, SEAL_KEYS=None, PUBLIC_URL=None, EMAIL_PORT="smtp", DATABSE_URL="x", DATABASE_URL="x")
    sentences = str(fault.value).removeprefix("The environment is not usable. ").split("; ")
    assert [sentence for sentence in sentences if "password" not in sentence] == [
        "Unknown setting DATABSE_URL: did you mean DATABASE_URL?",
        "EMAIL_PORT=smtp is not a whole number from 1 to 65535",
        "SECRET_KEY is missing: `manage.py new_env` prints one",
        "SEAL_KEYS is missing: make one with `manage.py make_seal_key`",
        "PUBLIC_URL is missing: say where people reach the product, such as https://duvo.example.com",
    ]
    assert "DATABASE_URL is not an address" in str(fault.value)


@pytest.mark.parametrize(
    "value", ["$HOME", "$$", "$", r"\$HOME", r"\\$HOME$", "a$HOME", "${HOME}", "${NOT_THERE}", "#x"]
)
def test_a_value_is_taken_as_it_is_written(start: Callable[..., Environment], env_file: Path, value: str) -> None:
    """A password may begin with `$`; that names no other variable, in the environment or in `.env`."""
    secret = value + "s" * 40
    environment = start(EMAIL_HOST_PASSWORD=value, EMAIL_HOST_USER=value, SECRET_KEY=secret)
    assert (environment.email_host_password, environment.email_host_user) == (value, value)
    assert environment.secret_key == secret
    env_file.write_text(f"METRICS_TOKEN={value}\n")
    assert start().metrics_token == value


def test_the_file_is_read_and_the_environment_is_stronger(start: Callable[..., Environment], env_file: Path) -> None:
    env_file.write_text(
        "# how it is here\nexport EMAIL_HOST = 'mail.example.com' # inside\nPROBE_INTERVAL=60\nEMAIL_PORT\n"
        'trusted_proxies="10.0.0.0/8, 192.0.2.1"\nMETRICS_TOKEN=from-the-file\n'
    )
    environment = start(METRICS_TOKEN="from-the-environment")
    assert (environment.email_host, environment.probe_interval, environment.email_port) == ("mail.example.com", 60, 587)
    assert environment.trusted_proxies == ["10.0.0.0/8", "192.0.2.1/32"]
    assert environment.metrics_token == "from-the-environment"
    assert "PROBE_INTERVAL" not in os.environ  # children do not inherit what only the file says


def test_a_name_in_the_file_that_is_not_ours_is_refused(start: Callable[..., Environment], env_file: Path) -> None:
    env_file.write_text("PROBE_INTERVALL=60\nSOMETHING_ELSE=1\n")
    with pytest.raises(ImproperlyConfigured) as fault:
        start()
    assert "Unknown setting PROBE_INTERVALL: did you mean PROBE_INTERVAL?" in str(fault.value)
    assert "Unknown setting SOMETHING_ELSE in .env" in str(fault.value)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (b"# one\n\nEMAIL_HOST: mail.example.com\n", "has no NAME=value at line 3"),
        (b"PROBE_INTERVAL=60\n\n\nEMAIL_HOST mail\nLOG_LEVEL=info\nEMAIL_HOST_USER='ada\n", "at line 4, 6"),
        ("EMAIL_HOST_USER=hünter2".encode("latin-1"), "is not a text in UTF-8"),
        ("PROBE_INTERVAL=60".encode("utf-16"), "is not a text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole_is_refused(
    start: Callable[..., Environment], env_file: Path, written: bytes, sentence: str
) -> None:
    """A line that is skipped is a setting that silently has its default."""
    env_file.write_bytes(written)
    with pytest.raises(ImproperlyConfigured) as fault:
        start()
    assert f"{env_file} " in str(fault.value)
    assert str(fault.value).endswith(sentence)


def test_a_file_that_is_named_and_not_there_is_refused(
    start: Callable[..., Environment], env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start().probe_interval == 300
    monkeypatch.setenv("ENV_FILE", str(env_file))
    with pytest.raises(ImproperlyConfigured, match=r"ENV_FILE=\S+\.env is not there$"):
        start(PUBLIC_URL=None)  # which may stand in it
    env_file.mkdir()
    with pytest.raises(ImproperlyConfigured, match=r"\.env cannot be read: Is a directory$"):
        start()


def test_the_public_url_is_written_as_browsers_write_it(start: Callable[..., Environment]) -> None:
    """They send `Origin` so, and a form is taken only from what is letter by letter its own page."""
    for written in ("HTTPS://Duvo.Example.com", "https://duvo.example.com:443", "https://duvo.example.com.:/?"):
        environment = start(PUBLIC_URL=written)
        assert (environment.public_url, environment.allowed_hosts) == ("https://duvo.example.com", ["duvo.example.com"])
    assert start(PUBLIC_URL="http://LOCALHOST:80", DATABASE_URL=None).public_url == "http://localhost"


def test_what_nothing_is_said_of_has_its_default(start: Callable[..., Environment]) -> None:
    environment = start(
        RESULT_FOLDER="", CALL_LEASE="", DEBUG="", EGRESS_ALLOWED_PORTS=" 443 ,, 9443,", EMAIL_USE_TLS="Off"
    )
    assert environment.result_folder is None
    assert environment.egress_allowed_ports == [443, 9443]
    assert (environment.email_use_tls, environment.trust_forwarded_proto, environment.debug) == (False, False, False)
    here = start(DATABASE_URL=None, PUBLIC_URL="http://127.0.0.1:8000")
    assert here.database_url["NAME"] == str(ROOT / "var" / "duvo.sqlite3")


@pytest.mark.parametrize(
    "address", ["redis://:p$%23w@cache/0", "rediss://cache:6380/1?ssl_cert_reqs=required", "unix:///a.sock"]
)
def test_the_address_of_redis_is_handed_on_as_it_is(start: Callable[..., Environment], address: str) -> None:
    assert start(REDIS_URL=address).redis_url == address


def test_the_environment_shows_none_of_its_secrets(start: Callable[..., Environment]) -> None:
    assert "hunter2" not in repr(start(EMAIL_HOST_USER="ada", EMAIL_HOST_PASSWORD="hunter2"))


def test_what_is_good_is_taken_in_any_spelling(start: Callable[..., Environment], tmp_path: Path) -> None:
    environment = start(
        LOG_LEVEL="info", LOG_FORMAT="Text", ALLOWED_HOSTS="Duvo.Example.com,localhost,[::1],10.0.0.7,worker_1",
        PUBLIC_URL="https://duvo.example.com:8443/", RESULT_FOLDER=str(tmp_path), EGRESS_CA_FILE=certifi_file(),
        OAUTH_CLIENT_METADATA_URL="https://www.example.com/duvo.json", HEARTBEAT_FILE=str(tmp_path / "new"),
        DATABASE_STATEMENT_TIMEOUT="0", METRICS_TOKEN=" token ", EMAIL_HOST="[2001:db8::25]",
        DEFAULT_FROM_EMAIL='"Duvo, Inc." <duvo@example.com>', REDIS_URL="redis://cache/0?socket_timeout=5",
    )  # fmt: skip
    assert (environment.log_level, environment.log_format) == ("INFO", "text")
    assert environment.public_url == "https://duvo.example.com:8443"
    assert environment.result_folder == tmp_path
    assert (environment.metrics_token, environment.email_host) == ("token", "2001:db8::25")


def certifi_file() -> str:
    return str(ssl.get_default_verify_paths().cafile or certifi.where())


def test_what_compose_reads_of_the_same_file_is_nobodys_fault(
    start: Callable[..., Environment], env_file: Path
) -> None:
    env_file.write_text("POSTGRES_PASSWORD=x\nVALKEY_PASSWORD=y\nPOSTGRES_IMAGE=postgres:18\nCOMPOSE_PROJECT_NAME=d\n")
    assert start().public_url == "https://duvo.example.com"


@pytest.mark.parametrize(
    "command",
    [
        ["manage.py", "migrate"],
        ["-m", "celery", "--quiet", "--app", "duvo", "worker"],
        ["-m", "celery", "--quiet", "--app", "duvo", "beat"],
        [
            "-m",
            "uvicorn",
            "duvo.asgi:application",
            "--log-config",
            "duvo/uvicorn.json",
            "--workers",
            "2",
            "--port",
            "1",
        ],
        ["-m", "uvicorn", "duvo.asgi:application"],
    ],
)
def test_every_process_says_in_one_line_what_is_wrong_and_ends(copy: Path, command: list[str]) -> None:
    outcome = subprocess.run(
        [sys.executable, *command],
        env={"PATH": os.environ["PATH"], **GOOD, "CALL_LEASE": "0", "LOG_FORMAT": "xml"},
        cwd=copy, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert outcome.returncode != 0
    said = "CALL_LEASE=0 is not a whole number from 2 to 3600; LOG_FORMAT=xml is none of json, text"
    assert outcome.stderr.splitlines() == [f"The environment is not usable. {said}"]
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    "address", ["https://duvo.example.com/", "https://[2001:db8::1]:8443", "http://127.0.0.1:8000"]
)
def test_one_command_prints_settings_with_which_the_product_starts(
    start: Callable[..., Environment], env_file: Path, copy: Path, address: str
) -> None:
    printed = without_settings(copy, "new_env", address)
    assert printed.returncode == 0, printed.stderr
    env_file.write_text(printed.stdout)
    environment = start(**dict.fromkeys(GOOD, None))
    assert environment.public_url == address.rstrip("/")
    assert environment.trust_forwarded_proto == address.startswith("https")
    assert f"POSTGRES_PASSWORD={environment.database_url['PASSWORD']}\n" in printed.stdout
    again = without_settings(copy, "new_env", address).stdout
    assert not set(secrets_in(printed.stdout)) & set(secrets_in(again))


def secrets_in(text: str) -> list[str]:
    lines = [line.partition("=") for line in text.splitlines()]
    return [value for name, _, value in lines if re.fullmatch(r"\w+_(KEYS?|PASSWORD|TOKEN)", name)]


@pytest.mark.parametrize(
    ("address", "fault"), [("duvo", "is not a web address"), ("http://x.y", "must begin with https")]
)
def test_no_settings_are_printed_for_an_address_that_cannot_be_used(copy: Path, address: str, fault: str) -> None:
    printed = without_settings(copy, "new_env", address)
    assert printed.returncode != 0
    assert printed.stdout == ""
    assert f"PUBLIC_URL={address} {fault}" in printed.stderr


def test_a_seal_key_is_made_without_settings_and_also_with_wrong_ones(copy: Path) -> None:
    for given in ({}, {"SEAL_KEYS": "lost"}):
        made = without_settings(copy, "make_seal_key", **given)
        assert made.returncode == 0, made.stderr
        assert variables.seal_key(made.stdout.strip())


def without_settings(copy: Path, *command: str, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        env={"PATH": os.environ["PATH"], **given}, cwd=copy, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_debug_needs_no_secrets(start: Callable[..., Environment]) -> None:
    environment = start(DEBUG="true", SECRET_KEY=None, SEAL_KEYS=None, PUBLIC_URL=None)
    assert environment.public_url == "http://127.0.0.1:8000"


def test_mails_come_from_the_public_host_if_nothing_else_is_said(start: Callable[..., Environment]) -> None:
    assert start().default_from_email == "duvo@duvo.example.com"
    assert start(DEFAULT_FROM_EMAIL="Duvo <it@example.com>").default_from_email == "Duvo <it@example.com>"


def test_a_deploy_check_names_that_nobody_is_mailed(settings: Any) -> None:
    settings.EMAIL_BACKEND = settings.NO_MAIL
    assert [warning.id for warning in checks.mail_is_sent()] == ["connections.W002"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert checks.mail_is_sent() == []


def test_a_deploy_check_names_that_all_clients_look_like_one(settings: Any) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert [warning.id for warning in checks.clients_are_told_apart()] == ["connections.W003"]
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    assert checks.clients_are_told_apart() == []


def test_what_is_said_of_https_holds_for_this_host_only() -> None:
    """Other hosts of the domain, and browsers' lists of it, are for its owner to decide."""
    from duvo import settings as product

    assert (product.SECURE_HSTS_INCLUDE_SUBDOMAINS, product.SECURE_HSTS_PRELOAD) == (False, False)
