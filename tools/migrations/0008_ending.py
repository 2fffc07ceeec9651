"""Which token asked for a call, as whom a token acts, and tokens that end."""

from datetime import timedelta

import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models
from django.db.models import F, Q
from django.utils import timezone

LONGEST = timedelta(days=365)
NOTICE = timedelta(days=30)  # nobody's token ends the moment this is deployed


def remember_owners(apps, schema_editor):
    """Tokens that an owner issued act as the owner; those of others do not."""
    membership = apps.get_model("connections", "Membership")
    tokens = apps.get_model("tools", "AccessToken").objects.filter(created_by=F("assignment__owner"))
    for token in tokens.select_related("assignment"):
        token.acts_as = membership.objects.filter(user=token.created_by_id, tenant=token.assignment.tenant_id).first()
        token.save(update_fields=["acts_as"])


def set_ends(apps, schema_editor):
    """A token without an end ends a year after it was issued, at the earliest in 30 days."""
    now, tokens = timezone.now(), apps.get_model("tools", "AccessToken").objects
    for token in tokens.filter(Q(expires_at=None) | Q(expires_at__gt=F("created_at") + LONGEST), revoked_at=None):
        latest = max(token.created_at + LONGEST, now + NOTICE)
        if token.expires_at is None or token.expires_at > latest:
            token.expires_at = latest
            token.save(update_fields=["expires_at"])


def check_now(apps, schema_editor):
    """PostgreSQL makes no index on a table whose rows it has still to check."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


class Migration(migrations.Migration):
    dependencies = [
        ("connections", "0008_suspension"),
        ("tools", "0007_what_a_call_is_for"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="accesstoken",
            name="acts_as",
            field=models.ForeignKey(
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="connections.membership",
            ),
        ),
        migrations.AddField(
            model_name="accesstoken",
            name="calls_go_on",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.AddField(
            model_name="call",
            name="token",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="calls",
                to="tools.accesstoken",
            ),
        ),
        migrations.CreateModel(
            name="Consent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("given_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "assignment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="consents", to="tools.assignment"
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="connections.membership"
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="connections.membership"
                    ),
                ),
            ],
            options={
                "ordering": ["given_at"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("assignment", "owner", "person"), name="an_owner_consents_once_to_a_person"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OwnerNotice",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("sentence", models.CharField(max_length=300)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("seen_at", models.DateTimeField(null=True)),
                ("mail_at", models.DateTimeField(null=True)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                (
                    "assignment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="owner_notices", to="tools.assignment"
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("mail_at__isnull", False)), fields=["mail_at"], name="owner_notice_due"
                    )
                ],
            },
        ),
        migrations.RunPython(remember_owners, migrations.RunPython.noop),
        migrations.RunPython(set_ends, migrations.RunPython.noop),
        migrations.RunPython(check_now, migrations.RunPython.noop),
    ]
