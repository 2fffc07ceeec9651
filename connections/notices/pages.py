"""The page of notices: who was told what about a sign-in, and whether it was delivered."""

from __future__ import annotations

from connections.columns import stamp
from connections.filters import TenantFilter
from connections.tenancy import ADMINS_AND_AUDITORS, ReadOnlyAdmin


class NoticeAdmin(ReadOnlyAdmin):
    """Notices of sign-ins that will end or have ended; the product writes them."""

    tenant_path = "connection__tenant"
    seen_by = ADMINS_AND_AUDITORS
    empty_sentence = "No notices. When a sign-in will end or has died, it is said here, by mail and by webhook."
    list_display = [
        "connection", "sentence", "owner", stamp("created_at", "since"), stamp("resolved_at", "resolved"),
        stamp("emailed_at", "mailed"), stamp("delivered_at", "webhook"),
    ]  # fmt: skip
    list_filter = [TenantFilter]
    list_select_related = ["connection", "owner"]
    search_fields = ["connection__name"]
    fields = [
        "connection", "owner", "reason", "sentence", "until", "created_at", "resolved_at",
        "emailed_at", "delivered_at", "attempts", "trouble",
    ]  # fmt: skip
