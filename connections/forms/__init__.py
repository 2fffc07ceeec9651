"""The forms of this package; `ConnectionForm` is the one way a connection is made or changed."""

from connections.forms.connection import NAME_TAKEN, ConnectionForm
from connections.forms.shown import SHOWN, ShownForm, Superseded
from connections.forms.tenants import MembershipForm, NewUserForm, OrganizationForm, TenantForm, UserForm

__all__ = [
    "NAME_TAKEN",
    "SHOWN",
    "ConnectionForm",
    "MembershipForm",
    "NewUserForm",
    "OrganizationForm",
    "ShownForm",
    "Superseded",
    "TenantForm",
    "UserForm",
]
