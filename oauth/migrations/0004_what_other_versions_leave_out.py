"""As the migration of `connections` with this name."""

from django.db import migrations

from connections.expanding import defaults_in_database, deletes_reach

FIRST = ("discovery", "pendingauthorization", "registration", "signin")  # every version knows them


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('connections', '0015_what_other_versions_leave_out'),
        ('oauth', '0003_accounts'),
    ]

    operations = [
        migrations.RunPython(defaults_in_database('oauth'), migrations.RunPython.noop),
        migrations.RunPython(deletes_reach('oauth', but=FIRST), migrations.RunPython.noop),
    ]
