"""The statements that make the rows; numbers stand for rows in tables of their own until the end of the session."""

from __future__ import annotations

# An id as the product makes them: ids of a later moment come later (RFC 9562, section 5.7).
_UUID7 = """
    CREATE FUNCTION pg_temp.uuid7(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
        SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) placing
            substring(int8send(floor(extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1),
            'hex')::uuid
    $$
"""

BEFORE = [
    _UUID7,
    "CREATE TEMP TABLE scale_text (kind text, number int, sealed text, PRIMARY KEY (kind, number))",
    "CREATE TEMP TABLE scale_tenant (n int PRIMARY KEY, id uuid, tools int, assignments int)",
    "CREATE TEMP TABLE scale_connection (n int PRIMARY KEY, tenant int, id uuid)",
    "CREATE TEMP TABLE scale_tool (tenant int, n int, id uuid, connection uuid, name text, PRIMARY KEY (tenant, n))",
    "CREATE TEMP TABLE scale_assignment (tenant int, n int, id uuid, token uuid, PRIMARY KEY (tenant, n))",
]

STOCK = [
    """
    INSERT INTO scale_tenant SELECT n, pg_temp.uuid7(now() - n * interval '5 minutes')
    FROM generate_series(0, %(tenants)s - 1) n
    """,
    """
    INSERT INTO connections_tenant (id, name, slug, max_connections)
    SELECT id, 'Company ' || to_char(n, 'FM0000'), 'company-' || to_char(n, 'FM0000'), 100000 FROM scale_tenant
    """,
    # --- people: three of each organization ---
    """
    INSERT INTO connections_user (username, email, password) SELECT who, who, '!' FROM (SELECT
    'person-' || to_char(n, 'FM00000') || '@example.com' AS who FROM generate_series(0, 3 * %(tenants)s - 1) n) AS p
    """,
    """
    INSERT INTO connections_membership (user_id, tenant_id, role) SELECT u.id, t.id,
    (ARRAY['admin', 'member', 'auditor'])[1 + substr(u.username, 8, 5)::int %% 3]
    FROM connections_user u JOIN scale_tenant t ON t.n = substr(u.username, 8, 5)::int / 3
    WHERE u.username LIKE 'person-%%'
    """,
    # --- connections: the first organization has many, each other one, and the rest is spread unevenly ---
    """
    INSERT INTO scale_connection SELECT n, CASE WHEN n < %(of_the_first)s THEN 0
    WHEN n < %(of_the_first)s + %(tenants)s - 1 THEN n - %(of_the_first)s + 1
    ELSE 1 + floor((%(tenants)s - 1) * power(random(), 2))::int END,
    pg_temp.uuid7(now() - interval '200 days' + n * interval '20 minutes')
    FROM generate_series(0, %(connections)s - 1) n
    """,
    """
    INSERT INTO connections_connection (
        id, tenant_id, name, slug, server_url, "authorization", enabled, era, protocol_version, credential_state,
        credential_since, reachability_state, reachability_reason, reachability_sentence, reachability_since,
        tools_state, tools_since, next_probe_at, probe_failures, probed_at, created_at, updated_at
    ) SELECT
        c.id, t.id, 'Server ' || to_char(c.n, 'FM00000'), 'server-' || to_char(c.n, 'FM00000'),
        'https://mcp-' || c.n || '.example.com/mcp',
        CASE c.n %% 10 WHEN 1 THEN 'api_key' WHEN 2 THEN 'oauth' WHEN 3 THEN 'oauth' ELSE 'none' END, c.n %% 50 <> 7,
        CASE c.n %% 3 WHEN 0 THEN 'legacy' ELSE 'modern' END,
        CASE c.n %% 3 WHEN 0 THEN '2025-11-25' ELSE '2026-07-28' END,
        CASE c.n %% 10 WHEN 1 THEN 'ready' WHEN 2 THEN 'ready' WHEN 3 THEN
            CASE c.n %% 100 WHEN 33 THEN 'needs_sign_in' WHEN 43 THEN 'expired' ELSE 'ready' END
        ELSE 'not_needed' END,
        now() - (c.n %% 90) * interval '1 day',
        CASE c.n %% 25 WHEN 4 THEN 'unreachable' WHEN 5 THEN 'busy' ELSE 'reachable' END,
        CASE c.n %% 25 WHEN 4 THEN 'connect_timeout' ELSE '' END,
        CASE c.n %% 25 WHEN 4 THEN 'The server does not answer.' ELSE '' END,
        now() - (c.n %% 60) * interval '7 hours',
        CASE WHEN c.n %% 40 = 11 THEN 'changes_to_review' ELSE 'in_sync' END,
        now() - (c.n %% 80) * interval '5 hours', now() + random() * interval '300 seconds',
        CASE c.n %% 25 WHEN 4 THEN 5 ELSE 0 END, now() - random() * interval '300 seconds', now(), now()
    FROM scale_connection c JOIN scale_tenant t ON t.n = c.tenant
    """,
    """
    INSERT INTO connections_statemove (id, connection_id, at, "of", was, state, lasted)
    SELECT pg_temp.uuid7(at), c.id, at, 'reachability', 'unreachable', 'reachable', interval '1 hour'
    FROM scale_connection c, LATERAL (SELECT now() - m * interval '3 days' AS at FROM generate_series(1, 10) m) AS m
    """,
    # --- tools ---
    """
    INSERT INTO scale_tool SELECT c.tenant, row_number() OVER (PARTITION BY c.tenant ORDER BY c.n, k) - 1,
    pg_temp.uuid7(now() - interval '100 days'), c.id, 'server-' || to_char(c.n, 'FM00000') || '__tool_' || k
    FROM scale_connection c, generate_series(1, %(tools_each)s) k
    """,
    """
    INSERT INTO tools_tool (
        id, connection_id, name, public_name, definition, digest, approved_definition, approved_digest, approved_by,
        approved_at, policy, broken, gone_at
    ) SELECT
        id, connection, split_part(name, '__', 2), name, %(definition)s::jsonb, repeat('a', 64),
        %(definition)s::jsonb, CASE WHEN n %% 40 = 3 THEN repeat('b', 64) ELSE repeat('a', 64) END,
        'the first listing', now(), CASE n %% 30 WHEN 1 THEN 'ask' WHEN 2 THEN 'deny' ELSE 'allow' END,
        CASE n %% 100 WHEN 7 THEN 'Its schema cannot be read.' ELSE '' END,
        CASE n %% 50 WHEN 9 THEN now() - interval '2 days' END
    FROM scale_tool
    """,
    """
    INSERT INTO tools_toolversion (tool_id, digest, definition, size)
    SELECT id, digest, definition, 2000 FROM tools_tool
    """,
    """
    INSERT INTO tools_probe (id, connection_id, outcome, stages, reason, started_at, finished_at)
    SELECT pg_temp.uuid7(at), c.id, CASE WHEN c.n %% 25 = 4 THEN 'failed' ELSE 'passed' END, %(stages)s::jsonb,
    CASE WHEN c.n %% 25 = 4 THEN 'connect_timeout' ELSE '' END, at, at + interval '1 second'
    FROM generate_series(%(probes_each)s, 1, -1) p, scale_connection c,
    LATERAL (SELECT now() - p * interval '5 minutes' + c.n * interval '20 ms' AS at) AS m
    """,
    # --- sign-ins of what has OAuth ---
    """
    INSERT INTO oauth_registration (id, connection_id, issuer, redirect_uri, kind, client_id, auth_method)
    SELECT pg_temp.uuid7(now()), id, 'https://sign-in.example.com', 'https://localhost/cb', 'dcr', 'one', 'none'
    FROM connections_connection WHERE "authorization" = 'oauth'
    """,
    """
    INSERT INTO oauth_signin (
        id, connection_id, person_id, registration_id, server_url, server, sealed, renewable, expires_at, renew_at
    ) SELECT pg_temp.uuid7(now()), c.id, m.user_id, r.id, c.server_url, '{"issuer": "https://sign-in.example.com"}',
        'x', true, now() + interval '1 hour', now() + interval '20 minutes' + random() * interval '40 minutes'
    FROM oauth_registration r JOIN connections_connection c ON c.id = r.connection_id
    JOIN connections_membership m ON m.tenant_id = c.tenant_id AND m.role = 'admin'
    """,
    # --- assignments and their tokens: three of each organization, many of the first one ---
    """
    INSERT INTO scale_assignment SELECT t.n, k, pg_temp.uuid7(now() - interval '90 days'),
    pg_temp.uuid7(now() - interval '80 days') FROM scale_tenant t, generate_series(0, CASE t.n WHEN 0 THEN 59
    ELSE 2 END) k
    """,
    """
    INSERT INTO tools_assignment (id, tenant_id, name, owner_id) SELECT a.id, t.id, 'Assignment ' || a.n, m.user_id
    FROM scale_assignment a JOIN scale_tenant t ON t.n = a.tenant
    JOIN connections_membership m ON m.tenant_id = t.id AND m.role = 'admin'
    """,
    """
    INSERT INTO tools_accesstoken (id, assignment_id, label, prefix, digest) SELECT token, id, 'Token',
    'duvo_' || substr(md5(token::text), 1, 7), md5(token::text) || md5(id::text) FROM scale_assignment
    """,
    """
    UPDATE scale_tenant t SET tools = (SELECT count(*) FROM scale_tool WHERE tenant = t.n),
    assignments = (SELECT count(*) FROM scale_assignment WHERE tenant = t.n)
    """,
    "ANALYZE",
]

# A slice of the calls, in the order of time, as they lie in a real table: many a day, and more of them lately.
CALLS = """
    WITH drawn AS MATERIALIZED (
        SELECT i,
            now() - %(days)s * interval '1 day' * power(1 - i / %(calls)s::float8, 1.3) - interval '1 minute' AS at,
            CASE WHEN random() < 0.4 THEN 0 ELSE floor(%(tenants)s * power(random(), 3))::int END AS tenant,
            random() AS r1, random() AS r2, random() AS r3, random() AS r4
        FROM generate_series(%(first)s, %(last)s) i
    ), made AS MATERIALIZED (
        SELECT i, at, t.id AS tenant, a.id AS assignment, a.token, u.connection, u.id AS tool, u.name,
            CASE WHEN r3 < 0.945 THEN 'succeeded' WHEN r3 < 0.985 THEN 'failed' WHEN r3 < 0.991 THEN 'cancelled'
            WHEN r3 < 0.998 THEN 'timed_out' ELSE 'outcome_unknown' END AS state,
            at + interval '40 ms' + power(r4, 8) * interval '20 seconds' AS ended, pg_temp.uuid7(at) AS id
        FROM drawn JOIN scale_tenant t ON t.n = drawn.tenant
        JOIN scale_assignment a ON a.tenant = t.n AND a.n = floor(t.assignments * power(r2, 2))::int
        JOIN scale_tool u ON u.tenant = t.n AND u.n = (7 * a.n + floor(12 * power(r1, 3))::int) %% t.tools
    ), kept AS (
        INSERT INTO tools_call (
            id, tenant_id, assignment_id, token_id, connection_id, tool_id, tool_name, tool_digest, server_url, state,
            sealed_arguments, sealed_result, error_code, error_sentence, request_id, created_at, started_at, sent_at,
            finished_at, last_seq, idempotency_key, body_digest
        ) SELECT made.id, tenant, assignment, token, connection, tool, name, repeat('a', 64), 'https://mcp.example.com',
            state, g.sealed, CASE state WHEN 'succeeded' THEN r.sealed ELSE '' END,
            CASE state WHEN 'succeeded' THEN '' WHEN 'failed' THEN 'tool_error' ELSE state END,
            CASE state WHEN 'succeeded' THEN '' ELSE 'The server said that it could not do this now.' END,
            md5(i::text), at, at, at, ended, 2, CASE WHEN i %% 10 = 0 AND at > now() - interval '1 day'
            THEN 'key-' || i ELSE '' END, ''
        FROM made JOIN scale_text g ON g.kind = 'arguments' AND g.number = i %% 64
        JOIN scale_text r ON r.kind = 'result' AND r.number = (i / 7) %% 64
        ORDER BY at
        RETURNING id, created_at, finished_at, state, error_code
    )
    INSERT INTO tools_callevent (call_id, seq, state, code, sealed_progress, at)
    SELECT id, 1, 'running', '', '', created_at FROM kept
    UNION ALL SELECT id, 2, state, error_code, '', finished_at FROM kept
"""

# Calls that are open: most wait for a worker, some for a person, some are under way.
_OPEN = """
    INSERT INTO tools_call (
        id, tenant_id, assignment_id, token_id, connection_id, tool_id, tool_name, tool_digest, server_url, state,
        sealed_arguments, request_id, created_at, lease_until, waits_until, started_at, sent_at, asked_in,
        sealed_question
    ) SELECT pg_temp.uuid7(at), t.id, a.id, a.token, u.connection, u.id, u.name, repeat('a', 64), 'https://mcp.example',
        state, g.sealed, md5('open' || i), at,
        CASE state WHEN 'running' THEN now() + interval '1 hour' WHEN 'queued' THEN now() - interval '1 second' END,
        CASE WHEN state IN ('awaiting_approval', 'input_required') THEN now() + interval '1 day' END,
        CASE state WHEN 'running' THEN at END, CASE state WHEN 'running' THEN at END,
        CASE state WHEN 'input_required' THEN 'result' ELSE '' END,
        CASE state WHEN 'input_required' THEN 'x' ELSE '' END
    FROM (SELECT i, now() - i * interval '200 ms' AS at,
        CASE WHEN i %% 2 = 0 THEN 0 ELSE i %% %(tenants)s END AS tenant,
        CASE WHEN i %% 20 = 1 THEN 'awaiting_approval' WHEN i %% 20 = 2 THEN 'input_required'
        WHEN i %% 4 = 0 THEN 'running' ELSE 'queued' END AS state FROM generate_series(1, 2000) i) AS o
    JOIN scale_tenant t ON t.n = o.tenant
    JOIN LATERAL (SELECT x.* FROM scale_tool x JOIN tools_tool y ON y.id = x.id WHERE x.tenant = t.n
        AND y.digest = y.approved_digest AND y.broken = '' AND y.gone_at IS NULL AND y.policy <> 'deny'
        AND y.connection_id IN (SELECT id FROM connections_connection WHERE enabled) ORDER BY x.n LIMIT 1)
        AS u ON true
    JOIN scale_assignment a ON a.tenant = t.n AND a.n = i %% t.assignments
    JOIN scale_text g ON g.kind = 'arguments' AND g.number = i %% 64
"""

_CLASSES = (0, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000)
_BY_CLASS = ", ".join(
    f"count(*) FILTER (WHERE ms >= {low} AND ms < {high})"
    for low, high in zip(_CLASSES, (*_CLASSES[1:], 10**9), strict=True)
)
_COLUMNS = ", ".join([*(f"ms_{high}" for high in _CLASSES[1:]), "ms_more"])

AFTER = [
    _OPEN,
    """
    INSERT INTO tools_storedcontent (id, call_id, number, media_type, size, sealed)
    SELECT gen_random_uuid(), id, 1, 'text/plain', 20000, repeat(sealed_result, 8) FROM (
    SELECT id, sealed_result, row_number() OVER () AS n FROM tools_call WHERE state = 'succeeded') AS c
    WHERE n %% 500 = 0
    """,
    f"""
    INSERT INTO tools_dailyuse (
        id, tenant_id, day, tool, connection, connection_name, assignment, assignment_name, owner, owner_name, calls,
        failures, open, milliseconds, bytes, {_COLUMNS}
    ) SELECT gen_random_uuid(), one.tenant_id, day, tool_name, connection_id, max(c.name), assignment_id, max(a.name),
        max(a.owner_id), 'somebody', count(*), count(*) FILTER (WHERE state IN ('failed', 'timed_out')), 0, sum(ms),
        sum(bytes), {_BY_CLASS}
    FROM (SELECT tenant_id, (created_at AT TIME ZONE 'UTC')::date AS day, tool_name, connection_id, assignment_id,
        state, extract(epoch FROM finished_at - started_at) * 1000 AS ms,
        octet_length(sealed_arguments) + octet_length(sealed_result) AS bytes
        FROM tools_call WHERE finished_at IS NOT NULL) AS one
    JOIN connections_connection c ON c.id = connection_id JOIN tools_assignment a ON a.id = assignment_id
    GROUP BY one.tenant_id, day, tool_name, connection_id, assignment_id
    """,  # noqa: S608 - names of our own
    "INSERT INTO tools_usemark (tenant_id, counted_at) SELECT id, now() FROM scale_tenant",
    """
    INSERT INTO connections_auditevent (
        id, tenant_id, at, actor, action, object_type, object_id, object_label, outcome, data
    ) SELECT pg_temp.uuid7(at), t.id, at, 'person-' || to_char(3 * t.n, 'FM00000') || '@example.com',
        (ARRAY['connection.changed', 'tool.approved', 'call.contents_read', 'connection.token_renewed'])[1 + i %% 4],
        (ARRAY['connection', 'tool', 'call', 'connection'])[1 + i %% 4], c.id::text, 'Server', 'ok',
        '{"fields": ["name"], "changes": {"name": ["Orders", "Orders of Europe"]}}'
    FROM (SELECT i, now() - %(days)s * interval '1 day' * (1 - i / %(events)s::float8) AS at,
        floor(%(connections)s * power(random(), 4))::int AS n FROM generate_series(0, %(events)s - 1) i) AS e
    JOIN scale_connection c ON c.n = e.n JOIN scale_tenant t ON t.n = c.tenant ORDER BY at
    """,
    """
    INSERT INTO connections_notice (
        id, connection_id, reason, sentence, created_at, resolved_at
    ) SELECT pg_temp.uuid7(at), id, 'sign_in_ended', 'The sign-in has ended.', at,
        CASE WHEN credential_state = 'ready' THEN at + interval '1 hour' END
    FROM connections_connection, LATERAL (SELECT now() - interval '3 days' * random() AS at) AS m
    WHERE "authorization" = 'oauth'
    """,
    """
    INSERT INTO connections_bulletin (id, tenant_id, kind, created_at) SELECT pg_temp.uuid7(now()), id, kind,
    now() - interval '1 day' FROM scale_tenant, unnest(ARRAY['tools.to_review', 'connection.unreachable',
    'call.awaiting_approval']) kind
    """,
    """
    INSERT INTO connections_matter (connection_id, kind, server, created_at, resolved_at, bulletin_id)
    SELECT DISTINCT ON (b.id) c.id, b.kind, c.server_url, b.created_at, b.created_at, b.id
    FROM connections_bulletin b JOIN connections_connection c ON c.tenant_id = b.tenant_id
    """,
    """
    INSERT INTO tools_mcpsession (
        id, tenant_id, assignment_id, connection_id, name, server_key, revision, sealed_session, created_at, opened_at,
        used_at, idle_until
    ) SELECT pg_temp.uuid7(now()), c.tenant_id, a.id, c.id, 'job-' || k, c.id || '/1', 1, 'x', now(), now(), now(),
        now() + interval '30 minutes'
    FROM scale_connection s JOIN connections_connection c ON c.id = s.id
    JOIN scale_assignment a ON a.tenant = s.tenant AND a.n = 0, generate_series(1, 2) k
    WHERE c.era = 'legacy' AND c.enabled AND s.n < 3000
    """,
]
