"""What members enter of their own, and assignments of members. The previous version neither reads nor writes it."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0013_channels_of_chats'),
    ]

    operations = [
        migrations.AddField(
            model_name='credential',
            name='refused',
            field=models.CharField(blank=True, db_default='', default='', max_length=60),
        ),
        migrations.AddField(
            model_name='credential',
            name='refused_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='tenant',
            name='members_own',
            field=models.BooleanField(db_default=False, default=False, verbose_name='members may have assignments'),
        ),
        migrations.AlterField(
            model_name='connection',
            name='sharing',
            field=models.CharField(choices=[('shared', "The organization's: one for all assignments"), ('personal', "Each member's own: an assignment uses its owner's")], default='shared', max_length=10, verbose_name='whose credential'),
        ),
    ]
