"""Tools of connected servers: who may use which, how they are called, and what became of each call.

From the top down: `admin`, `api` and `tasks` are the doors for people, programs and workers. `calls` is the life of a
call, `catalog` what servers offer. `callers` says who calls, `models` are the rows, `mcp_client` speaks MCP outwards.
`definitions` and `payloads` are rules without rows and sockets. Begin with `calls`, then `calls/life.py`.
"""
