"""Which session at its server a call travels in, whichever process makes it (MCP 2025-11-25 and earlier).

    of_call      one call's view of its session: the current one, a lost one, whose turn it is
    opening      a session is opened once over all processes, and found by each before each call
    keeping      what a process has joined: it says that it is alive, and reads their streams
    credentials  with which its server is asked between calls
    elsewhere    what a server asks on such a stream for a call that another process makes
    ending       idle, ended, crowded out, outdated: the server is told

A session belongs to an assignment, a connection with its sign-in, and the name that the program gives it. Its row
(`tools.models.McpSession`) says what all processes have to know. A server that keeps no sessions costs no row.
"""

from tools.calls.sessions.of_call import CallSession

__all__ = ["CallSession"]
