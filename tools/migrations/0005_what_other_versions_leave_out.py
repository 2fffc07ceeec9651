"""As the migration of `connections` with this name."""

from django.db import migrations

from connections.expanding import defaults_in_database, deletes_reach

FIRST = (  # every version knows them
    "accesstoken", "assignment", "assignment_tools", "call", "callevent", "consent", "ownernotice", "probe",
    "storedcontent", "tool", "toolversion",
)


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('connections', '0015_what_other_versions_leave_out'),
        ('oauth', '0004_what_other_versions_leave_out'),
        ('tools', '0004_daily_use'),
    ]

    operations = [
        migrations.RunPython(defaults_in_database('tools'), migrations.RunPython.noop),
        migrations.RunPython(deletes_reach('tools', but=FIRST), migrations.RunPython.noop),
    ]
