"""A connection whose every tool was set aside is not in sync. The previous version never writes that word."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0002_a_server_may_be_busy'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='connection',
            name='a_connection_has_a_known_tools_state',
        ),
        migrations.AlterField(
            model_name='connection',
            name='tools_state',
            field=models.CharField(choices=[('never_listed', 'Never listed'), ('in_sync', 'In sync'), ('changes_to_review', 'Changes to review'), ('set_aside', 'All set aside'), ('failed', 'Listing failed')], default='never_listed', editable=False, max_length=20),
        ),
        migrations.AddConstraint(
            model_name='connection',
            constraint=models.CheckConstraint(condition=models.Q(('tools_state__in', ['never_listed', 'in_sync', 'changes_to_review', 'set_aside', 'failed'])), name='a_connection_has_a_known_tools_state'),
        ),
    ]
