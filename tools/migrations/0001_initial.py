"""The tables of tools and calls, and the triggers on calls: a call's state changes only as it may, and each transition and
step of progress is an event."""

import django.db.models.deletion
import django.utils.timezone
import uuid_utils.compat
from django.conf import settings
from django.db import migrations, models


CALLS, EVENTS = "tools_call", "tools_callevent"
FINAL = ("succeeded", "failed", "cancelled", "timed_out", "outcome_unknown")
TRANSITIONS = {
    "queued": ("running", "failed", "cancelled"),
    "awaiting_approval": ("queued", "failed", "cancelled"),
    "running": ("queued", "input_required", *FINAL),
    "input_required": ("queued", "running", *FINAL),
}


def _allowed(word):
    pairs = ", ".join(f"('{before}', '{after}')" for before, afters in TRANSITIONS.items() for after in afters)
    return f"(OLD.state, NEW.state) {word} (VALUES {pairs})"


COLUMNS = "(call_id, seq, state, code, sealed_progress, at)"
PROGRESS = "CASE WHEN OLD.state = NEW.state THEN NEW.sealed_progress ELSE '' END"

POSTGRESQL = [
    f"""
    CREATE FUNCTION begin_call() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO {EVENTS} {COLUMNS} VALUES (NEW.id, NEW.last_seq, NEW.state, '', '', NEW.created_at);
        RETURN NULL;
    END $$
    """,
    f"""
    CREATE FUNCTION move_call() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.state <> NEW.state AND {_allowed("NOT IN")} THEN
            RAISE EXCEPTION 'a call does not move from % to %', OLD.state, NEW.state USING ERRCODE = 'check_violation';
        END IF;
        IF OLD.state <> NEW.state OR OLD.progress_at IS DISTINCT FROM NEW.progress_at THEN
            NEW.last_seq := OLD.last_seq + 1;
            INSERT INTO {EVENTS} {COLUMNS}
            VALUES (NEW.id, NEW.last_seq, NEW.state, NEW.error_code, {PROGRESS}, clock_timestamp());
        END IF;
        RETURN NEW;
    END $$
    """,
    f"CREATE TRIGGER a_call_begins AFTER INSERT ON {CALLS} FOR EACH ROW EXECUTE FUNCTION begin_call()",
    f"""
    CREATE TRIGGER a_call_moves BEFORE UPDATE OF state, progress_at ON {CALLS}
    FOR EACH ROW EXECUTE FUNCTION move_call()
    """,
]
SQLITE = [
    f"""
    CREATE TRIGGER a_call_begins AFTER INSERT ON {CALLS}
    BEGIN INSERT INTO {EVENTS} {COLUMNS} VALUES (NEW.id, NEW.last_seq, NEW.state, '', '', NEW.created_at); END
    """,
    f"""
    CREATE TRIGGER a_call_moves_only_as_it_may BEFORE UPDATE OF state ON {CALLS}
    WHEN OLD.state <> NEW.state AND {_allowed("NOT IN")}
    BEGIN SELECT RAISE(ABORT, 'a call does not move like this'); END
    """,
    f"""
    CREATE TRIGGER a_call_moves AFTER UPDATE OF state, progress_at ON {CALLS}
    WHEN OLD.state <> NEW.state OR OLD.progress_at IS NOT NEW.progress_at
    BEGIN
        UPDATE {CALLS} SET last_seq = OLD.last_seq + 1 WHERE id = NEW.id;
        INSERT INTO {EVENTS} {COLUMNS}
        VALUES (NEW.id, OLD.last_seq + 1, NEW.state, NEW.error_code, {PROGRESS}, strftime('%Y-%m-%d %H:%M:%f', 'now'));
    END
    """,
]


def keep(apps, schema_editor):
    for statement in POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE:
        # No parameters: a percent sign is a percent sign.
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(statement)


def let_go(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION begin_call() CASCADE")
        schema_editor.execute("DROP FUNCTION move_call() CASCADE")
    else:
        for trigger in ("a_call_begins", "a_call_moves_only_as_it_may", "a_call_moves"):
            schema_editor.execute(f"DROP TRIGGER {trigger}")


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('connections', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Assignment',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=80)),
                ('instructions', models.TextField(blank=True)),
                ('enabled', models.BooleanField(default=True)),
                ('scope', models.CharField(choices=[('all', 'Every approved tool of the organization'), ('chosen', 'Only the tools chosen below')], default='all', max_length=10, verbose_name='may use')),
                ('max_rate', models.PositiveIntegerField(blank=True, null=True, verbose_name='calls per minute')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('owner', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='assignments', to='connections.tenant', verbose_name='organization')),
            ],
            options={
                'ordering': ['name', 'id'],
            },
        ),
        migrations.CreateModel(
            name='AccessToken',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('label', models.CharField(blank=True, max_length=80)),
                ('prefix', models.CharField(editable=False, max_length=12)),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(editable=False, null=True)),
                ('last_used_at', models.DateTimeField(editable=False, null=True)),
                ('calls_go_on', models.BooleanField(default=False, editable=False)),
                ('acts_as', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='connections.membership')),
                ('created_by', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('membership', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='access_tokens', to='connections.membership')),
                ('assignment', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='access_tokens', to='tools.assignment')),
            ],
            options={
                'verbose_name': 'API token',
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='Call',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('tool_name', models.CharField(max_length=64)),
                ('tool_digest', models.CharField(blank=True, db_default='', max_length=64)),
                ('server_url', models.CharField(blank=True, db_default='', max_length=2048)),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('awaiting_approval', 'Awaiting approval'), ('running', 'Running'), ('input_required', 'Input required'), ('succeeded', 'Succeeded'), ('failed', 'Failed'), ('cancelled', 'Cancelled'), ('timed_out', 'Timed out'), ('outcome_unknown', 'Outcome unknown')], default='queued', max_length=20)),
                ('sealed_arguments', models.TextField()),
                ('sealed_result', models.TextField(blank=True)),
                ('error_code', models.CharField(blank=True, max_length=60)),
                ('error_sentence', models.CharField(blank=True, max_length=300)),
                ('request_id', models.CharField(blank=True, max_length=64)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('started_at', models.DateTimeField(null=True)),
                ('sent_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('lease_until', models.DateTimeField(null=True)),
                ('attempts', models.PositiveSmallIntegerField(default=1)),
                ('cancel_requested_at', models.DateTimeField(null=True)),
                ('idempotency_key', models.CharField(blank=True, max_length=255)),
                ('body_digest', models.CharField(blank=True, max_length=64)),
                ('last_seq', models.PositiveIntegerField(db_default=1)),
                ('progress_at', models.DateTimeField(null=True)),
                ('sealed_progress', models.TextField(blank=True, db_default='')),
                ('waits_until', models.DateTimeField(null=True)),
                ('decided_by', models.CharField(blank=True, db_default='', max_length=200)),
                ('decided_at', models.DateTimeField(null=True)),
                ('asked_in', models.CharField(blank=True, choices=[('result', 'Nowhere: the call is repeated with the answer'), ('stream', 'On the open stream of the process that runs the call'), ('task', 'In its task')], db_default='', max_length=6)),
                ('sealed_question', models.TextField(blank=True, db_default='')),
                ('sealed_answers', models.TextField(blank=True, db_default='')),
                ('sealed_task', models.TextField(blank=True, db_default='')),
                ('poll_at', models.DateTimeField(null=True)),
                ('traceparent', models.CharField(blank=True, db_default='', max_length=55)),
                ('assignment', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='calls', to='tools.assignment')),
                ('connection', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='calls', to='connections.connection')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='calls', to='connections.tenant')),
                ('token', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='calls', to='tools.accesstoken')),
            ],
            options={
                'ordering': ['-created_at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='CallEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('seq', models.PositiveIntegerField()),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('awaiting_approval', 'Awaiting approval'), ('running', 'Running'), ('input_required', 'Input required'), ('succeeded', 'Succeeded'), ('failed', 'Failed'), ('cancelled', 'Cancelled'), ('timed_out', 'Timed out'), ('outcome_unknown', 'Outcome unknown')], max_length=20)),
                ('code', models.CharField(blank=True, max_length=60)),
                ('sealed_progress', models.TextField(blank=True)),
                ('at', models.DateTimeField()),
                ('call', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='events', to='tools.call')),
            ],
            options={
                'ordering': ['seq'],
            },
        ),
        migrations.CreateModel(
            name='Consent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('given_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('assignment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='consents', to='tools.assignment')),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='connections.membership')),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='connections.membership')),
            ],
            options={
                'ordering': ['given_at'],
            },
        ),
        migrations.CreateModel(
            name='OwnerNotice',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('sentence', models.CharField(max_length=300)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('seen_at', models.DateTimeField(null=True)),
                ('mail_at', models.DateTimeField(null=True)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('assignment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='owner_notices', to='tools.assignment')),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='Probe',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('outcome', models.CharField(choices=[('running', 'Running'), ('passed', 'Passed'), ('failed', 'Failed')], default='running', max_length=10)),
                ('stages', models.JSONField(default=list)),
                ('reason', models.CharField(blank=True, max_length=60)),
                ('started_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('finished_at', models.DateTimeField(null=True)),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='probes', to='connections.connection')),
            ],
            options={
                'verbose_name': 'check',
                'ordering': ['-started_at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='StoredContent',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField()),
                ('media_type', models.CharField(max_length=200)),
                ('size', models.PositiveBigIntegerField()),
                ('sealed', models.TextField(blank=True)),
                ('file', models.CharField(blank=True, max_length=300)),
                ('call', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='contents', to='tools.call')),
            ],
            options={
                'ordering': ['number'],
            },
        ),
        migrations.CreateModel(
            name='Tool',
            fields=[
                ('id', models.UUIDField(default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=200, verbose_name='name on the server')),
                ('public_name', models.CharField(max_length=64, verbose_name='name for assignments')),
                ('definition', models.JSONField(verbose_name='definition last seen')),
                ('digest', models.CharField(max_length=64)),
                ('approved_definition', models.JSONField(null=True)),
                ('approved_digest', models.CharField(blank=True, max_length=64)),
                ('approved_by', models.CharField(blank=True, max_length=200)),
                ('approved_at', models.DateTimeField(null=True)),
                ('policy', models.CharField(choices=[('allow', 'Allow'), ('ask', 'Ask'), ('deny', 'Deny')], default='allow', max_length=10)),
                ('placement', models.CharField(choices=[('auto', 'At once, in the queue when calls were slow lately'), ('at_once', 'Always at once'), ('queue', 'Always in the queue')], default='auto', max_length=10, verbose_name='where calls run')),
                ('idle_timeout', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('call_timeout', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('slow_until', models.DateTimeField(null=True)),
                ('broken', models.CharField(blank=True, max_length=300, verbose_name='why it cannot be used')),
                ('first_seen_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('last_seen_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('gone_at', models.DateTimeField(null=True)),
                ('connection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tools', to='connections.connection')),
            ],
            options={
                'ordering': ['public_name', 'id'],
            },
        ),
        migrations.AddField(
            model_name='call',
            name='tool',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='calls', to='tools.tool'),
        ),
        migrations.AddField(
            model_name='assignment',
            name='tools',
            field=models.ManyToManyField(blank=True, related_name='assignments', to='tools.tool', verbose_name='chosen tools'),
        ),
        migrations.CreateModel(
            name='ToolVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(max_length=64)),
                ('definition', models.JSONField()),
                ('size', models.PositiveIntegerField(db_default=0)),
                ('seen_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('tool', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='tools.tool')),
            ],
            options={
                'ordering': ['-seen_at'],
            },
        ),
        migrations.AddConstraint(
            model_name='accesstoken',
            constraint=models.CheckConstraint(condition=models.Q(('assignment__isnull', True), ('membership__isnull', True), _connector='XOR'), name='a_token_belongs_to_an_assignment_or_to_a_member'),
        ),
        migrations.AddConstraint(
            model_name='callevent',
            constraint=models.UniqueConstraint(fields=('call', 'seq'), name='a_call_has_one_event_of_each_number'),
        ),
        migrations.AddConstraint(
            model_name='consent',
            constraint=models.UniqueConstraint(fields=('assignment', 'owner', 'person'), name='an_owner_consents_once_to_a_person'),
        ),
        migrations.AddIndex(
            model_name='ownernotice',
            index=models.Index(condition=models.Q(('mail_at__isnull', False)), fields=['mail_at'], name='owner_notice_due'),
        ),
        migrations.AddConstraint(
            model_name='probe',
            constraint=models.CheckConstraint(condition=models.Q(('outcome', 'running'), ('finished_at__isnull', False), _connector='OR'), name='a_finished_probe_has_an_end'),
        ),
        migrations.AddConstraint(
            model_name='storedcontent',
            constraint=models.UniqueConstraint(fields=('call', 'number'), name='a_call_has_one_stored_content_of_each_number'),
        ),
        migrations.AddConstraint(
            model_name='storedcontent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('sealed', ''), _negated=True), models.Q(('file', ''), _negated=True), _connector='XOR'), name='a_stored_content_is_in_the_row_or_in_a_file'),
        ),
        migrations.AddConstraint(
            model_name='tool',
            constraint=models.UniqueConstraint(fields=('connection', 'name'), name='a_tool_name_is_unique_on_its_server'),
        ),
        migrations.AddConstraint(
            model_name='tool',
            constraint=models.UniqueConstraint(fields=('connection', 'public_name'), name='a_public_tool_name_is_unique_in_its_connection'),
        ),
        migrations.AddConstraint(
            model_name='tool',
            constraint=models.CheckConstraint(condition=models.Q(('policy__in', ['allow', 'ask', 'deny'])), name='a_tool_has_a_known_policy'),
        ),
        migrations.AddConstraint(
            model_name='tool',
            constraint=models.CheckConstraint(condition=models.Q(('placement__in', ['auto', 'at_once', 'queue'])), name='a_tool_has_a_known_placement'),
        ),
        migrations.AddConstraint(
            model_name='tool',
            constraint=models.CheckConstraint(condition=models.Q(('approved_digest', ''), models.Q(('approved_at__isnull', False), ('approved_definition__isnull', False)), _connector='OR'), name='an_approved_tool_has_its_approved_definition'),
        ),
        migrations.AddIndex(
            model_name='call',
            index=models.Index(fields=['tenant', '-created_at'], name='call_by_tenant'),
        ),
        migrations.AddIndex(
            model_name='call',
            index=models.Index(fields=['assignment', '-created_at', '-id'], name='call_by_assignment'),
        ),
        migrations.AddIndex(
            model_name='call',
            index=models.Index(condition=models.Q(('finished_at__isnull', True)), fields=['lease_until'], name='call_open'),
        ),
        migrations.AddIndex(
            model_name='call',
            index=models.Index(condition=models.Q(('cancel_requested_at__isnull', False), ('finished_at__isnull', True)), fields=['cancel_requested_at'], name='call_unwanted'),
        ),
        migrations.AddIndex(
            model_name='call',
            index=models.Index(condition=models.Q(('state', 'queued')), fields=['tenant', 'lease_until'], name='call_queued'),
        ),
        migrations.AddIndex(
            model_name='call',
            index=models.Index(condition=models.Q(('poll_at__isnull', False)), fields=['poll_at'], name='call_task_due'),
        ),
        migrations.AddIndex(
            model_name='call',
            index=models.Index(condition=models.Q(('waits_until__isnull', False)), fields=['waits_until'], name='call_waiting'),
        ),
        migrations.AddConstraint(
            model_name='call',
            constraint=models.UniqueConstraint(condition=models.Q(('idempotency_key', ''), _negated=True), fields=('assignment', 'idempotency_key'), name='an_assignment_uses_an_idempotency_key_for_one_call'),
        ),
        migrations.AddConstraint(
            model_name='call',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'awaiting_approval', 'running', 'input_required', 'succeeded', 'failed', 'cancelled', 'timed_out', 'outcome_unknown'])), name='a_call_has_a_known_state'),
        ),
        migrations.AddConstraint(
            model_name='call',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', True), ('state__in', ['queued', 'awaiting_approval', 'running', 'input_required'])), models.Q(('finished_at__isnull', False), ('state__in', ['succeeded', 'failed', 'cancelled', 'timed_out', 'outcome_unknown'])), _connector='OR'), name='a_finished_call_has_an_end_and_an_open_one_none'),
        ),
        migrations.AddConstraint(
            model_name='call',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'succeeded'), _negated=True), models.Q(('error_code', ''), models.Q(('sealed_result', ''), _negated=True)), _connector='OR'), name='a_succeeded_call_has_a_result_and_no_error'),
        ),
        migrations.AddConstraint(
            model_name='call',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['failed', 'cancelled', 'timed_out', 'outcome_unknown']), _negated=True), models.Q(('error_code', ''), _negated=True), _connector='OR'), name='an_unsuccessful_call_has_an_error'),
        ),
        migrations.AddConstraint(
            model_name='call',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'awaiting_approval'), _negated=True), ('waits_until__isnull', False), _connector='OR'), name='a_call_awaits_approval_for_a_limited_time'),
        ),
        migrations.AddConstraint(
            model_name='call',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'input_required'), _negated=True), models.Q(models.Q(('asked_in', ''), _negated=True), models.Q(('sealed_question', ''), _negated=True)), _connector='OR'), name='a_call_that_requires_input_has_a_question'),
        ),
        migrations.AddConstraint(
            model_name='assignment',
            constraint=models.UniqueConstraint(fields=('tenant', 'name'), name='an_assignment_name_is_unique_in_its_tenant'),
        ),
        migrations.AddConstraint(
            model_name='toolversion',
            constraint=models.UniqueConstraint(fields=('tool', 'digest'), name='a_tool_version_is_kept_once'),
        ),
        migrations.RunPython(keep, let_go),
    ]
