"""The audit trail, sent to an organization's webhook. The previous version neither reads nor writes it.

It puts a message of a kind that it does not know aside; `notices.audit_feed` then sends that after all.
"""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models
from django.db.models.functions import Now

from connections.expanding import deletes_reach

KINDS = [
    ('connection.sign_in', 'Sign-ins that will end or have ended'),
    ('call.awaiting_approval', 'Calls that wait for an approval'),
    ('call.input_required', 'Calls that wait for an answer'),
    ('call.login_required', 'Calls that wait until their owner has connected'),
    ('tools.to_review', 'Tools that wait for a review'),
    ('connection.unreachable', 'Connections that cannot be reached'),
    ('connection.recovered', 'Connections that can be reached again'),
    ('audit.events', 'The audit trail'),
]
FIRST = ("auditevent", "connection", "credential", "membership", "notice", "tenant", "user")  # every version knows them


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('connections', '0018_logins_that_calls_wait_for'),
    ]

    operations = [
        migrations.AddField(
            model_name='bulletin',
            name='events',
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.AlterField(
            model_name='bulletin',
            name='kind',
            field=models.CharField(choices=KINDS, max_length=30),
        ),
        migrations.AlterField(
            model_name='matter',
            name='kind',
            field=models.CharField(choices=KINDS, max_length=30),
        ),
        migrations.CreateModel(
            name='AuditFeed',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('since', models.DateTimeField(db_default=Now(), default=django.utils.timezone.now)),
                ('told_until', models.DateTimeField()),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='audit_feeds', to='connections.tenant')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('tenant',), name='an_organization_has_one_audit_feed')],
            },
        ),
        migrations.RunPython(deletes_reach('connections', but=FIRST), migrations.RunPython.noop),
    ]
