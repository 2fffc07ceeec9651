"""django-oauth-toolkit as an organization's OpenID Connect provider, in a process of its own.

    python -m tests.servers.toolkit PORT REDIRECT_URI

Whoever asks is Bea: what a person does at their company's own sign-in is not ours to test.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

import django
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

CLIENT, SECRET, EMAIL = "duvo", "a secret: with / and %", "bea@acme.example"


def configure(database: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    settings.configure(
        SECRET_KEY="x" * 50,
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        LOGIN_URL="/sign-in/",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        INSTALLED_APPS=[
            "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "OAUTH2_VALIDATOR_CLASS": f"{__name__}.Validator",
            "SCOPES": {"openid": "OpenID Connect", "email": "e-mail address", "profile": "name"},
        },
    )  # fmt: skip
    django.setup()


def furnish(redirect_uri: str) -> None:
    from django.contrib.auth.models import User
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0)
    User.objects.create_user("bea", EMAIL, first_name="Bea", last_name="Bright")
    Application.objects.create(
        client_id=CLIENT, client_secret=SECRET, hash_client_secret=False, client_type="confidential",
        authorization_grant_type="authorization-code", redirect_uris=redirect_uri, skip_authorization=True,
        algorithm="RS256",
    )  # fmt: skip


def sign_in(request: Any) -> Any:
    from django.contrib.auth import login
    from django.contrib.auth.models import User
    from django.shortcuts import redirect

    login(request, User.objects.get())
    return redirect(request.GET["next"])


def validator() -> type:
    from oauth2_provider.oauth2_validators import OAuth2Validator

    class WithAddress(OAuth2Validator):
        oidc_claim_scope = None

        def get_additional_claims(self, request: Any) -> dict[str, Any]:
            return {"email": request.user.email, "email_verified": True, "name": request.user.get_full_name()}

    return WithAddress


def __getattr__(name: str) -> Any:
    """Make the validator once Django is set up: it needs the rows of the toolkit."""
    if name == "Validator":
        return validator()
    raise AttributeError(name)


urlpatterns: list[Any] = []  # filled once Django is set up


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder) / "provider.sqlite3")
        furnish(sys.argv[2])
        toolkit = include("oauth2_provider.urls", namespace="oauth2_provider")
        urlpatterns += [path("sign-in/", sign_in), path("o/", toolkit)]
        make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()).serve_forever()
