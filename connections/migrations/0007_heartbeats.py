"""When each kind of background process last worked. The previous version neither reads nor writes it."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0006_sessions_at_servers'),
    ]

    operations = [
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('name', models.CharField(max_length=20, primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['name'],
            },
        ),
    ]
