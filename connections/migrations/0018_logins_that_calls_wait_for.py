"""Messages to one person: that calls wait until they have connected.

Safe while the previous version runs: it leaves the new columns null. It would send such a message to the organization's
admins if it found one, and does not open any; deleting a person reaches what it does not know in the database.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from connections.expanding import deletes_reach

FIRST = ("auditevent", "connection", "credential", "membership", "notice", "tenant", "user")  # every version knows them
KINDS = [('connection.sign_in', 'Sign-ins that will end or have ended'), ('call.awaiting_approval', 'Calls that wait for an approval'), ('call.input_required', 'Calls that wait for an answer'), ('call.login_required', 'Calls that wait until their owner has connected'), ('tools.to_review', 'Tools that wait for a review'), ('connection.unreachable', 'Connections that cannot be reached'), ('connection.recovered', 'Connections that can be reached again')]


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('connections', '0017_proved_addresses'),
    ]

    operations = [
        migrations.AddField(
            model_name='bulletin',
            name='owner',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='matter',
            name='owner',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL),
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
        migrations.RunPython(deletes_reach('connections', but=FIRST), migrations.RunPython.noop),
    ]
