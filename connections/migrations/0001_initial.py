"""The tables of who may reach what, and the triggers that keep the audit log append-only."""

import django.contrib.auth.models
import django.contrib.auth.validators
import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models


# The audit log is append-only: a trigger forbids UPDATE, DELETE and TRUNCATE. SQLite knows no TRUNCATE: there it is a DELETE.
AUDIT = "connections_auditevent"
POSTGRESQL = [
    """
    CREATE FUNCTION forbid_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'restrict_violation';
    END $$
    """,
    f"""
    CREATE TRIGGER audit_events_are_append_only BEFORE UPDATE OR DELETE ON {AUDIT}
    FOR EACH ROW EXECUTE FUNCTION forbid_audit_change()
    """,
    f"""
    CREATE TRIGGER audit_events_are_not_truncated BEFORE TRUNCATE ON {AUDIT}
    FOR EACH STATEMENT EXECUTE FUNCTION forbid_audit_change()
    """,
]
SQLITE = [
    f"""
    CREATE TRIGGER audit_events_are_append_only_{verb.lower()} BEFORE {verb} ON {AUDIT}
    BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END
    """
    for verb in ("UPDATE", "DELETE")
]


def forbid_changes(apps, schema_editor):
    for statement in POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE:
        schema_editor.execute(statement)


def allow_changes(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION forbid_audit_change() CASCADE")
    else:
        for verb in ("update", "delete"):
            schema_editor.execute(f"DROP TRIGGER audit_events_are_append_only_{verb}")


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        migrations.CreateModel(
            name='Tenant',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100)),
                ('slug', models.SlugField(editable=False, max_length=40, unique=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('webhook_url', models.CharField(blank=True, max_length=2048, verbose_name='webhook URL')),
                ('sealed_webhook_secret', models.TextField(blank=True, editable=False)),
                ('max_concurrency', models.PositiveIntegerField(default=1000, verbose_name='concurrent calls')),
                ('decision_hours', models.PositiveSmallIntegerField(default=24, verbose_name='hours to decide or answer')),
                ('retention_days', models.PositiveSmallIntegerField(default=30, verbose_name='days that calls are kept')),
                ('max_token_days', models.PositiveSmallIntegerField(default=365, verbose_name='days that an API token lives')),
                ('suspended_at', models.DateTimeField(editable=False, null=True)),
                ('suspended_reason', models.CharField(blank=True, editable=False, max_length=300)),
                ('max_connections', models.PositiveIntegerField(default=200, verbose_name='connections')),
                ('max_assignments', models.PositiveIntegerField(default=500, verbose_name='assignments')),
                ('max_tokens', models.PositiveIntegerField(default=1000, verbose_name='API tokens')),
                ('max_open_calls', models.PositiveIntegerField(default=10000, verbose_name='open calls')),
                ('max_stored', models.PositiveIntegerField(default=5000, verbose_name='MB stored')),
                ('stored_bytes', models.PositiveBigIntegerField(default=0, editable=False)),
            ],
            options={
                'verbose_name': 'organization',
                'ordering': ['name', 'id'],
            },
        ),
        migrations.CreateModel(
            name='User',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('password', models.CharField(max_length=128, verbose_name='password')),
                ('last_login', models.DateTimeField(blank=True, null=True, verbose_name='last login')),
                ('is_superuser', models.BooleanField(default=False, help_text='Designates that this user has all permissions without explicitly assigning them.', verbose_name='superuser status')),
                ('username', models.CharField(error_messages={'unique': 'A user with that username already exists.'}, help_text='Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only.', max_length=150, unique=True, validators=[django.contrib.auth.validators.UnicodeUsernameValidator()], verbose_name='username')),
                ('first_name', models.CharField(blank=True, max_length=150, verbose_name='first name')),
                ('last_name', models.CharField(blank=True, max_length=150, verbose_name='last name')),
                ('email', models.EmailField(blank=True, max_length=254, verbose_name='email address')),
                ('is_staff', models.BooleanField(default=False, help_text='Designates whether the user can log into this admin site.', verbose_name='staff status')),
                ('is_active', models.BooleanField(default=True, help_text='Designates whether this user should be treated as active. Unselect this instead of deleting accounts.', verbose_name='active')),
                ('date_joined', models.DateTimeField(default=django.utils.timezone.now, verbose_name='date joined')),
                ('is_reviewer', models.BooleanField(default=False, help_text='May see the connections of all organizations with their status, read-only.', verbose_name='staff reviewer')),
                ('password_changed_at', models.DateTimeField(editable=False, null=True)),
                ('groups', models.ManyToManyField(blank=True, help_text='The groups this user belongs to. A user will get all permissions granted to each of their groups.', related_name='user_set', related_query_name='user', to='auth.group', verbose_name='groups')),
                ('user_permissions', models.ManyToManyField(blank=True, help_text='Specific permissions for this user.', related_name='user_set', related_query_name='user', to='auth.permission', verbose_name='user permissions')),
            ],
            options={
                'verbose_name': 'user',
                'verbose_name_plural': 'users',
                'abstract': False,
            },
            managers=[
                ('objects', django.contrib.auth.models.UserManager()),
            ],
        ),
        migrations.CreateModel(
            name='Connection',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=80)),
                ('slug', models.SlugField(editable=False, max_length=24)),
                ('server_url', models.CharField(max_length=2048, verbose_name='server URL')),
                ('authorization', models.CharField(choices=[('none', 'None'), ('api_key', 'API key'), ('headers', 'Custom headers'), ('oauth', 'OAuth')], default='none', max_length=10, verbose_name='authorization method')),
                ('api_key_header', models.CharField(blank=True, max_length=80, verbose_name='API key header')),
                ('enabled', models.BooleanField(default=True)),
                ('connect_timeout', models.PositiveSmallIntegerField(default=10)),
                ('idle_timeout', models.PositiveSmallIntegerField(default=60)),
                ('call_timeout', models.PositiveSmallIntegerField(default=300)),
                ('max_concurrency', models.PositiveSmallIntegerField(default=50, verbose_name='concurrent calls')),
                ('max_rate', models.PositiveIntegerField(blank=True, null=True, verbose_name='calls per minute')),
                ('max_answer', models.PositiveIntegerField(db_default=2000000, default=2000000, verbose_name='largest answer')),
                ('send_trace', models.BooleanField(default=False, verbose_name='send the trace context')),
                ('era_choice', models.CharField(choices=[('auto', 'Detect automatically'), ('modern', 'Modern (2026-07-28 and later)'), ('legacy', 'Legacy (2025-11-25 and earlier)')], default='auto', max_length=6, verbose_name='protocol era')),
                ('sharing', models.CharField(choices=[('shared', 'One sign-in for the organization'), ('personal', "Each member signs in; an assignment uses its owner's sign-in")], default='shared', max_length=10, verbose_name='who signs in')),
                ('oauth_grant', models.CharField(choices=[('authorization_code', 'A person signs in'), ('client_credentials', 'Client credentials: nobody signs in')], default='authorization_code', max_length=20, verbose_name='grant')),
                ('oauth_client_id', models.CharField(blank=True, max_length=500, verbose_name='client ID')),
                ('oauth_token_auth', models.CharField(blank=True, choices=[('', 'Choose by what the server supports'), ('none', 'none (public client)'), ('client_secret_basic', 'client_secret_basic'), ('client_secret_post', 'client_secret_post'), ('private_key_jwt', 'private_key_jwt')], default='', max_length=25, verbose_name='client authentication')),
                ('oauth_scopes', models.CharField(blank=True, max_length=2000, verbose_name='scopes')),
                ('oauth_resource', models.CharField(blank=True, max_length=2048, verbose_name='resource')),
                ('oauth_omit_resource', models.BooleanField(default=False, verbose_name='send no resource')),
                ('era', models.CharField(blank=True, editable=False, max_length=6, verbose_name='era in use')),
                ('protocol_version', models.CharField(blank=True, editable=False, max_length=20)),
                ('server_name', models.CharField(blank=True, editable=False, max_length=200)),
                ('server_version', models.CharField(blank=True, editable=False, max_length=100)),
                ('credential_state', models.CharField(choices=[('not_needed', 'Not needed'), ('missing', 'Missing'), ('needs_sign_in', 'Needs sign-in'), ('ready', 'Ready'), ('expiring', 'Expiring'), ('expired', 'Expired'), ('refused', 'Refused')], default='not_needed', editable=False, max_length=20)),
                ('credential_reason', models.CharField(blank=True, editable=False, max_length=60)),
                ('credential_sentence', models.CharField(blank=True, editable=False, max_length=300)),
                ('credential_since', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('reachability_state', models.CharField(choices=[('unknown', 'Not checked yet'), ('reachable', 'Reachable'), ('unreachable', 'Unreachable'), ('unsupported_transport', 'Unsupported transport')], default='unknown', editable=False, max_length=25)),
                ('reachability_reason', models.CharField(blank=True, editable=False, max_length=60)),
                ('reachability_sentence', models.CharField(blank=True, editable=False, max_length=300)),
                ('reachability_since', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('tools_state', models.CharField(choices=[('never_listed', 'Never listed'), ('in_sync', 'In sync'), ('changes_to_review', 'Changes to review'), ('failed', 'Listing failed')], default='never_listed', editable=False, max_length=20)),
                ('tools_reason', models.CharField(blank=True, editable=False, max_length=60)),
                ('tools_sentence', models.CharField(blank=True, editable=False, max_length=300)),
                ('tools_since', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('next_probe_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('probe_lease_until', models.DateTimeField(editable=False, null=True)),
                ('probe_failures', models.PositiveIntegerField(default=0, editable=False)),
                ('first_listed_at', models.DateTimeField(editable=False, null=True)),
                ('probed_at', models.DateTimeField(editable=False, null=True, verbose_name='last checked')),
                ('revision', models.PositiveIntegerField(default=1, editable=False)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('created_by', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='connections', to='connections.tenant', verbose_name='organization')),
            ],
            options={
                'ordering': ['name', 'id'],
            },
        ),
        migrations.CreateModel(
            name='AuditEvent',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('at', models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
                ('actor', models.CharField(max_length=200)),
                ('action', models.CharField(max_length=60)),
                ('object_type', models.CharField(max_length=40)),
                ('object_id', models.CharField(max_length=40)),
                ('object_label', models.CharField(max_length=200)),
                ('outcome', models.CharField(default='ok', max_length=60)),
                ('request_id', models.CharField(blank=True, max_length=64)),
                ('data', models.JSONField(default=dict)),
                ('tenant', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='audit_events', to='connections.tenant')),
            ],
            options={
                'ordering': ['-at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='Credential',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('api_key', 'API key'), ('headers', 'Custom headers'), ('extra_headers', 'Extra headers'), ('oauth_client_secret', 'Client secret'), ('oauth_signing_key', 'Signing key')], max_length=25)),
                ('origin', models.CharField(blank=True, db_default='', max_length=300)),
                ('issuer', models.CharField(blank=True, db_default='', max_length=2048)),
                ('sealed', models.TextField()),
                ('header_names', models.JSONField(default=list)),
                ('public_half', models.JSONField(default=dict)),
                ('set_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='credentials', to='connections.connection')),
                ('owner', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('set_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('connection', 'kind', 'owner'), name='a_connection_has_one_secret_of_a_kind_per_owner', nulls_distinct=False)],
            },
        ),
        migrations.CreateModel(
            name='Notice',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('reason', models.CharField(max_length=60)),
                ('sentence', models.CharField(max_length=300)),
                ('until', models.DateTimeField(null=True, verbose_name='ends')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('resolved_at', models.DateTimeField(null=True)),
                ('deliver_at', models.DateTimeField(null=True)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('emailed_to', models.JSONField(default=list)),
                ('emailed_at', models.DateTimeField(null=True, verbose_name='mailed')),
                ('delivered_at', models.DateTimeField(null=True, verbose_name='webhook taken')),
                ('trouble', models.CharField(blank=True, max_length=300)),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='notices', to='connections.connection')),
                ('owner', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-created_at'],
                'indexes': [models.Index(condition=models.Q(('resolved_at', None)), fields=['deliver_at'], name='notice_due')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('owner', None), ('resolved_at', None)), fields=('connection', 'reason'), name='an_organization_is_told_the_same_thing_once'), models.UniqueConstraint(condition=models.Q(('owner__isnull', False), ('resolved_at', None)), fields=('connection', 'owner', 'reason'), name='a_member_is_told_the_same_thing_once'), models.CheckConstraint(condition=models.Q(('resolved_at', None), ('deliver_at', None), _connector='OR'), name='a_resolved_notice_is_not_sent')],
            },
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('admin', 'Admin'), ('member', 'Member'), ('auditor', 'Auditor')], default='member', max_length=10)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='connections.tenant')),
            ],
            options={
                'verbose_name': 'member',
                'ordering': ['tenant', 'user'],
                'constraints': [models.UniqueConstraint(fields=('user', 'tenant'), name='a_user_has_one_role_in_a_tenant'), models.CheckConstraint(condition=models.Q(('role__in', ['admin', 'member', 'auditor'])), name='a_membership_has_a_known_role')],
            },
        ),
        migrations.AddIndex(
            model_name='connection',
            index=models.Index(fields=['enabled', 'next_probe_at'], name='connection_due'),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.UniqueConstraint(models.F('tenant'), django.db.models.functions.text.Lower('name'), name='a_connection_name_is_unique_in_its_tenant'),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.UniqueConstraint(fields=('tenant', 'slug'), name='a_connection_slug_is_unique_in_its_tenant'),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.CheckConstraint(condition=models.Q(('authorization__in', ['none', 'api_key', 'headers', 'oauth'])), name='a_connection_has_a_known_authorization'),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.CheckConstraint(condition=models.Q(('sharing__in', ['shared', 'personal'])), name='a_connection_has_a_known_sharing'),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.CheckConstraint(condition=models.Q(('oauth_grant__in', ['authorization_code', 'client_credentials'])), name='a_connection_has_a_known_grant'),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.CheckConstraint(condition=models.Q(('credential_state__in', ['not_needed', 'missing', 'needs_sign_in', 'ready', 'expiring', 'expired', 'refused'])), name='a_connection_has_a_known_credential_state'),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.CheckConstraint(condition=models.Q(('reachability_state__in', ['unknown', 'reachable', 'unreachable', 'unsupported_transport'])), name='a_connection_has_a_known_reachability_state'),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.CheckConstraint(condition=models.Q(('tools_state__in', ['never_listed', 'in_sync', 'changes_to_review', 'failed'])), name='a_connection_has_a_known_tools_state'),
        ),
        migrations.RunPython(forbid_changes, allow_changes),
    ]
