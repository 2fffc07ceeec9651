"""The table of isolation: every address of the admin, and what each of the cast is answered there.

The rows of the table are acme's; the columns are a superuser who acts nowhere, acme's admin, member and auditor, the
rival's admin, the reviewer of the platform, and nobody.
"""

from __future__ import annotations

from uuid import uuid4

from django.db.models import Model

from connections.models import AuditEvent, Bulletin, Connection, Invitation, Membership, Notice, Tenant, User
from tests.connections.estate import Estate
from tools.models import AccessToken, Assignment, Call, DailyUse, McpSession, Probe, Tool

CAST = ("superuser", "admin", "member", "auditor", "rival", "reviewer", "nobody")
# Addresses that speak of no row.
GENERAL = {
    "index": (200, 200, 200, 200, 200, 200, 302),
    "login": (302, 302, 302, 302, 302, 302, 200),
    "logout": (405, 405, 405, 405, 405, 405, 302),
    "password_change": (200, 200, 200, 200, 200, 200, 302),
    "password_change_done": (200, 200, 200, 200, 200, 200, 302),
    "jsi18n": (200, 200, 200, 200, 200, 200, 302),
    "app_list": (200, 200, 200, 200, 200, 200, 302),
    "mail_choices": (200, 200, 200, 200, 200, 200, 302),
    "inbox": (200, 200, 200, 200, 200, 200, 302),
    "inbox_count": (200, 200, 200, 200, 200, 200, 302),
    "inbox_assign": (405, 405, 405, 405, 405, 405, 302),
    "saved_filter_save": (405, 405, 405, 405, 405, 405, 302),
    "saved_filter_remove": (405, 405, 405, 405, 405, 405, 302),
    "auth_user_password_change": (200, 404, 404, 404, 404, 404, 302),
}
# Pages of one kind of row: its list, its add page, one row of acme (page, history), its delete page.
PAGES: dict[type[Model], dict[str, tuple[int, ...]]] = {
    Connection: {
        "changelist": (200, 200, 200, 200, 200, 200, 302),
        "add": (403, 200, 403, 403, 200, 403, 302),
        "change": (200, 200, 200, 200, 404, 200, 302),
        "delete": (403, 200, 403, 403, 404, 403, 302),
    },
    Tool: {
        "changelist": (200, 200, 200, 200, 200, 200, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 200, 200, 404, 200, 302),
        "delete": (403, 403, 403, 403, 404, 403, 302),
    },
    Probe: {
        "changelist": (200, 200, 200, 200, 200, 200, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 200, 200, 404, 200, 302),
        "delete": (403, 403, 403, 403, 404, 403, 302),
    },
    Assignment: {
        "changelist": (200, 200, 200, 200, 200, 403, 302),
        "add": (403, 200, 403, 403, 200, 403, 302),
        "change": (200, 200, 200, 200, 404, 404, 302),
        "delete": (403, 200, 403, 403, 404, 404, 302),
    },
    McpSession: {
        "changelist": (200, 200, 200, 200, 200, 403, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 200, 200, 404, 404, 302),
        "delete": (403, 403, 403, 403, 404, 404, 302),
    },
    Call: {
        "changelist": (200, 200, 403, 200, 200, 403, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 404, 200, 404, 404, 302),
        "delete": (403, 403, 404, 403, 404, 404, 302),
    },
    DailyUse: {
        "changelist": (200, 200, 403, 200, 200, 403, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 404, 200, 404, 404, 302),
        "delete": (403, 403, 404, 403, 404, 404, 302),
    },
    AccessToken: {  # everybody sees their own, admins all of their organization; this one is the admin's
        "changelist": (200, 200, 200, 200, 200, 403, 302),
        "add": (403, 200, 200, 200, 200, 403, 302),
        "change": (200, 200, 404, 404, 404, 404, 302),
        "delete": (403, 403, 404, 404, 404, 404, 302),
    },
    Tenant: {
        "changelist": (200, 200, 200, 200, 200, 403, 302),
        "add": (200, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 200, 200, 404, 404, 302),
        "delete": (200, 403, 403, 403, 404, 404, 302),
    },
    Membership: {
        "changelist": (200, 200, 200, 200, 200, 403, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 200, 200, 404, 404, 302),
        "delete": (403, 200, 403, 403, 404, 404, 302),
    },
    Invitation: {
        "changelist": (200, 200, 403, 200, 200, 403, 302),
        "add": (403, 200, 403, 403, 200, 403, 302),
        "change": (200, 200, 404, 200, 404, 404, 302),
        "delete": (403, 403, 404, 403, 404, 404, 302),
    },
    AuditEvent: {
        "changelist": (200, 200, 403, 200, 200, 403, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 404, 200, 404, 404, 302),
        "delete": (403, 403, 404, 403, 404, 404, 302),
    },
    Notice: {
        "changelist": (200, 200, 403, 200, 200, 403, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 404, 200, 404, 404, 302),
        "delete": (403, 403, 404, 403, 404, 404, 302),
    },
    Bulletin: {
        "changelist": (200, 200, 403, 200, 200, 403, 302),
        "add": (403, 403, 403, 403, 403, 403, 302),
        "change": (200, 200, 404, 200, 404, 404, 302),
        "delete": (403, 403, 404, 403, 404, 404, 302),
    },
    User: {
        "changelist": (200, 403, 403, 403, 403, 403, 302),
        "add": (200, 403, 403, 403, 403, 403, 302),
        "change": (200, 404, 404, 404, 404, 404, 302),
        "delete": (200, 404, 404, 404, 404, 404, 302),
    },
}
# Buttons: addresses that take only POST. Who may press them on acme's row.
BUTTONS = {
    "connections_connection_check": (403, 302, 403, 403, 404, 403, 302),
    "connections_connection_use_address": (403, 302, 403, 403, 404, 403, 302),
    "connections_connection_disconnect": (403, 403, 403, 403, 404, 403, 302),  # not personal: nobody has their own
    "connections_tenant_webhook_secret": (403, 200, 403, 403, 404, 404, 302),
    "connections_tenant_webhook_test": (403, 302, 403, 403, 404, 404, 302),
    "connections_tenant_act": (302, 403, 403, 403, 404, 404, 302),
    "connections_tenant_leave": (302, 403, 403, 403, 404, 404, 302),
    "connections_tenant_suspend": (302, 403, 403, 403, 404, 404, 302),
    "connections_tenant_resume": (302, 403, 403, 403, 404, 404, 302),
    "connections_user_without_factor": (302, 404, 404, 404, 404, 404, 302),
    "connections_invitation_send": (403, 302, 404, 403, 404, 404, 302),
    "connections_invitation_withdraw": (403, 302, 404, 403, 404, 404, 302),
    "connections_tenant_channel": (403, 200, 403, 403, 404, 404, 302),  # a fault, at its field
    "connections_tenant_channel_test": (403, 302, 403, 403, 404, 404, 302),
    "connections_tenant_channel_remove": (403, 302, 403, 403, 404, 404, 302),
    "connections_notice_again": (403, 302, 404, 403, 404, 404, 302),
    "connections_bulletin_again": (403, 302, 404, 403, 404, 404, 302),
    "tools_tool_approve": (403, 302, 403, 403, 404, 403, 302),
    "tools_tool_policy": (403, 302, 403, 403, 404, 403, 302),
    "tools_tool_description": (403, 302, 403, 403, 404, 403, 302),
    "tools_tool_placement": (403, 302, 403, 403, 404, 403, 302),
    "tools_assignment_token": (403, 200, 403, 403, 404, 404, 302),
    "tools_assignment_revoke": (403, 302, 403, 403, 404, 404, 302),
    "tools_assignment_consent": (403, 302, 403, 403, 404, 404, 302),
    "tools_assignment_withdraw": (403, 302, 403, 403, 404, 404, 302),
    "tools_assignment_seen": (403, 302, 403, 403, 404, 404, 302),
    "tools_accesstoken_revoke": (403, 302, 404, 404, 404, 404, 302),
    "tools_mcpsession_end": (403, 302, 403, 403, 404, 404, 302),
    "tools_call_approve": (403, 302, 404, 403, 404, 404, 302),
    "tools_call_refuse": (403, 302, 404, 403, 404, 404, 302),
    "tools_call_answer": (403, 302, 404, 403, 404, 404, 302),
    "tools_call_cancel": (403, 302, 404, 403, 404, 404, 302),
    "tools_call_again": (403, 302, 404, 403, 404, 404, 302),
}
# Addresses that pages read, by GET.
READ = {
    "connections_auditevent_export": (200, 200, 403, 200, 200, 403, 302),
    "connections_connection_connect": (302, 302, 302, 302, 404, 302, 302),  # to its page: it is not personal
    "tools_probe_report": (200, 200, 200, 200, 404, 200, 302),
    "tools_assignment_first_call": (403, 200, 403, 403, 404, 404, 302),
    "tools_call_life": (200, 200, 404, 200, 404, 404, 302),
    "tools_call_contents": (200, 200, 404, 200, 404, 404, 302),
    "tools_call_whole": (302, 302, 404, 302, 404, 404, 302),  # what this call was sealed with opens nothing
    "tools_call_download": (200, 200, 404, 200, 404, 404, 302),
}


def button(name: str, estate: Estate) -> tuple[str, dict[str, str]]:
    """Where a button leads, and what it sends."""
    organization = f"/admin/connections/tenant/{estate.connection.tenant_id}"
    call = f"/admin/tools/call/{estate.call.pk}"
    assignment = f"/admin/tools/assignment/{estate.assignment.pk}"
    return {
        "connections_connection_check": (f"/admin/connections/connection/{estate.connection.pk}/check/", {}),
        "connections_connection_use_address": (
            f"/admin/connections/connection/{estate.connection.pk}/use-address/",
            {},
        ),
        "connections_connection_disconnect": (f"/admin/connections/connection/{estate.connection.pk}/disconnect/", {}),
        "connections_tenant_webhook_secret": (f"{organization}/webhook-secret/", {}),
        "connections_tenant_webhook_test": (f"{organization}/webhook-test/", {}),
        "connections_tenant_channel": (f"{organization}/channel/", {"url": ""}),
        "connections_tenant_channel_test": (f"{organization}/channel-test/", {}),
        "connections_tenant_channel_remove": (f"{organization}/channel-remove/", {}),
        "connections_notice_again": (f"/admin/connections/notice/{estate.notice.pk}/again/", {}),
        "connections_bulletin_again": (f"/admin/connections/bulletin/{estate.bulletin.pk}/again/", {}),
        # Begun in the middle of the table, others would find a visit that is none of theirs.
        "connections_tenant_act": (f"{organization}/act/", {"reason": ""}),
        "connections_tenant_leave": (f"{organization}/leave/", {}),
        # Suspended in the middle of the table, others could not press what they may.
        "connections_tenant_suspend": (f"{organization}/suspend/", {"reason": ""}),
        "connections_tenant_resume": (f"{organization}/resume/", {}),
        "connections_user_without_factor": (
            f"/admin/connections/user/{estate.guest.pk}/without-factor/",
            {},
        ),
        "connections_invitation_send": (f"/admin/connections/invitation/{estate.invitation.pk}/send/", {}),
        # Once withdrawn the row is gone, and the others could not press what they may; this one stays as it is.
        "connections_invitation_withdraw": (f"/admin/connections/invitation/{estate.taken.pk}/withdraw/", {}),
        "tools_tool_approve": (f"/admin/tools/tool/{estate.tool.pk}/approve/", {"digest": "d" * 64}),
        "tools_tool_policy": (f"/admin/tools/tool/{estate.tool.pk}/policy/", {"policy": "deny"}),
        "tools_tool_description": (
            f"/admin/tools/tool/{estate.tool.pk}/description/",
            {"part": "all", "digest": estate.tool.digest},
        ),
        "tools_tool_placement": (f"/admin/tools/tool/{estate.tool.pk}/placement/", {"placement": "queue"}),
        "tools_assignment_token": (f"/admin/tools/assignment/{estate.assignment.pk}/tokens/", {"label": "x"}),
        "tools_assignment_revoke": (
            f"/admin/tools/assignment/{estate.assignment.pk}/tokens/{estate.token.pk}/revoke/",
            {},
        ),
        "tools_assignment_consent": (f"{assignment}/consent/", {"person": "1"}),
        "tools_assignment_withdraw": (f"{assignment}/withdraw/", {"consent": str(estate.consent.pk)}),
        "tools_assignment_seen": (f"{assignment}/seen/", {}),
        "tools_accesstoken_revoke": (f"/admin/tools/accesstoken/{estate.own_token.pk}/revoke/", {}),
        "tools_mcpsession_end": (f"/admin/tools/mcpsession/{estate.session.pk}/end/", {}),
        "tools_call_approve": (f"{call}/approve/", {}),
        "tools_call_refuse": (f"{call}/refuse/", {"reason": "x"}),
        "tools_call_answer": (f"{call}/answer/", {"action": "decline"}),
        "tools_call_cancel": (f"{call}/cancel/", {}),
        "tools_call_again": (f"{call}/again/", {"press": str(uuid4())}),
    }[name]


def read(name: str, estate: Estate) -> tuple[str, object]:
    """What a page reads, as a template of the address, and the id that goes into it."""
    call = estate.call.pk
    return {
        "connections_auditevent_export": ("/admin/connections/auditevent/export/?kind=csv", call),
        "connections_connection_connect": ("/admin/connections/connection/{}/connect/", estate.connection.pk),
        "tools_assignment_first_call": (
            f"/admin/tools/assignment/{estate.assignment.pk}/tokens/{{}}/",
            estate.token.pk,
        ),
        "tools_probe_report": ("/admin/tools/probe/report/{}/", estate.connection.pk),
        "tools_call_life": ("/admin/tools/call/{}/life/", call),
        "tools_call_contents": ("/admin/tools/call/{}/contents/", call),
        "tools_call_whole": ("/admin/tools/call/{}/whole/", call),
        "tools_call_download": ("/admin/tools/call/{}/contents/1/", call),
    }[name]


# What a superuser may no longer, or not yet, do of what an admin may: it needs a membership of one's own.
NEEDS_MEMBERSHIP = {
    "tools_assignment_consent", "tools_assignment_withdraw", "tools_assignment_seen", "tools_accesstoken_add",
}  # fmt: skip


def acting(name: str, superuser: int, admin: int) -> int:
    """What a superuser who acts in acme is answered: as its admin, where that is more than a superuser may anyway."""
    refused = {403, 404}
    return superuser if name in NEEDS_MEMBERSHIP or admin in refused else admin
