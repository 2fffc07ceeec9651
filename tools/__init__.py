"""Tools of connected servers: who may use which, how they are called, and what became of each call.

From the top down: `admin` has the pages for people, `api` the REST API for programs, `tasks` the Celery tasks. `calls`
is the life of a call, `catalog` what servers offer. `callers` says who calls, `models` are the rows, `mcp_client` is
the MCP client. `definitions` and `payloads` use neither rows nor sockets. Begin with `calls`, then `calls/life.py`.
"""
