"""The scene of `tests/oauth`: a connection, its MCP server, and the authorization server that guards it."""

from tests.oauth.conftest import scene

__all__ = ["scene"]
