"""A call moves only as it may, and each move and step of progress is an event: triggers, on PostgreSQL and on SQLite."""

from django.db import migrations

CALLS, EVENTS = "tools_call", "tools_callevent"
FINAL = ("succeeded", "failed", "cancelled", "timed_out", "outcome_unknown")
MOVES = {
    "queued": ("running", "failed", "cancelled"),
    "awaiting_approval": ("queued", "failed", "cancelled"),
    "running": ("queued", "input_required", *FINAL),
    "input_required": ("queued", "running", *FINAL),
}


def _allowed(word):
    pairs = ", ".join(f"('{before}', '{after}')" for before, afters in MOVES.items() for after in afters)
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
    dependencies = [("tools", "0004_life_of_a_call")]
    operations = [migrations.RunPython(keep, let_go)]
