"""Which work waits behind which: three queues, and each task in one of them by its name."""

from __future__ import annotations

import pytest
from celery import current_app
from django.conf import settings

from duvo import processes

# Whatever asks a stranger's server; nothing of it may stand before a dispatcher or the sweeper.
OF_STRANGERS = {
    "oauth.attend_sign_in",
    "connections.deliver_notice",
    "connections.mail_new_password",
    "tools.deliver_bulletin",
    "oauth.forget_abandoned",
    "oauth.discover_again",
    "tools.cancel_task",
    "tools.end_session",
    "tools.poll_task",
    "tools.mail_owner",
    "tools.probe_connection",
}

OF_EACH_QUEUE = {"duvo.show_probes"}  # shows that the queue moves


def queue_of(task: str) -> str:
    """The queue that a message of this task goes to."""
    return str(current_app.amqp.router.route({}, task)["queue"].name)


def named_explicitly(task: str) -> bool:
    patterns = settings.CELERY_TASK_ROUTES
    return task in patterns or any(
        pattern.endswith("*") and task.startswith(pattern.removesuffix("*")) for pattern in patterns
    )


def test_every_task_has_a_queue_of_its_own_choice() -> None:
    current_app.loader.import_default_modules()
    tasks = {name for name in current_app.tasks if not name.startswith("celery.")}
    assert tasks >= OF_STRANGERS
    assert {task for task in tasks if not named_explicitly(task)} == set()
    assert {task for task in tasks if queue_of(task) == "probes"} == OF_STRANGERS | OF_EACH_QUEUE
    assert {task for task in tasks if queue_of(task) == "housekeeping"} == tasks - OF_STRANGERS - OF_EACH_QUEUE


def test_what_beat_sends_waits_behind_nobodys_server() -> None:
    sent = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} - OF_EACH_QUEUE
    assert {queue_of(task) for task in sent} == {"housekeeping"}


@pytest.mark.parametrize("queue", ["housekeeping", "probes", "calls"])
def test_each_queue_has_a_worker_of_its_own(queue: str) -> None:
    commands = [program.command for program in processes.programs(port=1)]
    assert sum("--queues" in command and queue in command for command in commands) == 1


def test_no_work_holds_a_process_for_ever() -> None:
    current_app.loader.import_default_modules()
    for name in OF_STRANGERS | {"tools.dispatch_probes", "tools.sweep_calls"}:
        task = current_app.tasks[name]
        soft = task.soft_time_limit or current_app.conf.task_soft_time_limit
        hard = task.time_limit or current_app.conf.task_time_limit
        assert 0 < soft < hard <= 180, name
