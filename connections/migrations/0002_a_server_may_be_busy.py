"""A server that answers 429 or 503 is busy, and not unreachable. The previous version never writes that word."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0001_initial'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='connection',
            name='a_connection_has_a_known_reachability_state',
        ),
        migrations.AlterField(
            model_name='connection',
            name='reachability_state',
            field=models.CharField(choices=[('unknown', 'Not checked yet'), ('reachable', 'Reachable'), ('busy', 'Busy'), ('unreachable', 'Unreachable'), ('unsupported_transport', 'Unsupported transport')], default='unknown', editable=False, max_length=25),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.CheckConstraint(condition=models.Q(('reachability_state__in', ['unknown', 'reachable', 'busy', 'unreachable', 'unsupported_transport'])), name='a_connection_has_a_known_reachability_state'),
        ),
    ]
