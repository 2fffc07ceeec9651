"""Who may reach what, with which secret.

    User ─── Membership(role) ─── Tenant ──┬── Connection ─── Credential (one row per secret)
                                           │            └── StateMove (when its states moved)
                                           ├── Invitation (who is to become a member)
                                           └── AuditEvent (append-only)

The tenant is stored once, on its own rows; every query starts from it (`tenant.connections`).
"""

from connections.models.audit import AuditEvent, AuditFeed
from connections.models.company import Company, CompanyIdentity, MailDomain
from connections.models.connection import (
    PERSONAL,
    Authorization,
    Connection,
    ConnectionQuerySet,
    Era,
    Grant,
    SessionCalls,
    Sharing,
    TokenAuth,
)
from connections.models.credential import Credential
from connections.models.heartbeats import Heartbeat
from connections.models.inbox import Handling
from connections.models.invitations import Invitation
from connections.models.moves import StateMove
from connections.models.notices import FOR_PEOPLE, OF_CALLS, Bulletin, Channel, Kind, Matter, Notice, NoticeQuerySet
from connections.models.people import ACTING, Membership, Role, StaffVisit, Tenant, User
from connections.models.saved_filters import SavedFilter
from connections.models.sessions import BrowserSession

__all__ = [
    "ACTING",
    "FOR_PEOPLE",
    "OF_CALLS",
    "PERSONAL",
    "AuditEvent",
    "AuditFeed",
    "Authorization",
    "BrowserSession",
    "Bulletin",
    "Channel",
    "Company",
    "CompanyIdentity",
    "Connection",
    "ConnectionQuerySet",
    "Credential",
    "Era",
    "Grant",
    "Handling",
    "Heartbeat",
    "Invitation",
    "Kind",
    "MailDomain",
    "Matter",
    "Membership",
    "Notice",
    "NoticeQuerySet",
    "Role",
    "SavedFilter",
    "SessionCalls",
    "Sharing",
    "StaffVisit",
    "StateMove",
    "Tenant",
    "TokenAuth",
    "User",
]
