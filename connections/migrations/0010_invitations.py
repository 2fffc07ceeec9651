"""Who is invited, and how often a person's sessions were ended. The previous version reads and writes neither."""

import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0009_state_moves'),
    ]

    operations = [
        migrations.AddField(
            model_name='user',
            name='sessions_ended',
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.CreateModel(
            name='Invitation',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('email', models.EmailField(blank=True, max_length=254, verbose_name='e-mail')),
                ('role', models.CharField(choices=[('admin', 'Admin'), ('member', 'Member'), ('auditor', 'Auditor')], default='member', max_length=10)),
                ('for_staff', models.BooleanField(default=False, editable=False)),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('days', models.PositiveSmallIntegerField(default=7, verbose_name='days that its link works')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='invited')),
                ('mailed_at', models.DateTimeField(editable=False, null=True, verbose_name='mailed')),
                ('expires_at', models.DateTimeField(editable=False, verbose_name='link works until')),
                ('accepted_at', models.DateTimeField(editable=False, null=True, verbose_name='taken')),
                ('invited_by', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='invitations', to='connections.tenant')),
            ],
            options={
                'ordering': ['-created_at', '-id'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('accepted_at', None)), fields=('tenant', 'email'), name='an_address_is_invited_once_at_a_time'), models.CheckConstraint(condition=models.Q(('role__in', ['admin', 'member', 'auditor'])), name='an_invitation_has_a_known_role'), models.CheckConstraint(condition=models.Q(models.Q(('tenant__isnull', False), models.Q(('email', ''), _negated=True)), ('for_staff', True), _connector='OR'), name='an_invitation_says_whom_and_where_to')],
            },
        ),
    ]
