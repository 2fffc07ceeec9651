"""How a connection gets, renews and loses its tokens.

Connection ──┬── Discovery              what its server says about signing in, and how it was found out
             ├── Registration           who we are at one authorization server, with history
             ├── PendingAuthorization   a sign-in under way: one browser, ten minutes, used once
             ├── SignIn                 the tokens: one row for the organization, or one per member
"""

from oauth.models.pending import PendingAuthorization, basis, digest
from oauth.models.registrations import Discovery, Registration
from oauth.models.sign_ins import SignIn, SignInQuerySet, Tokens

__all__ = [
    "Discovery",
    "PendingAuthorization",
    "Registration",
    "SignIn",
    "SignInQuerySet",
    "Tokens",
    "basis",
    "digest",
]
