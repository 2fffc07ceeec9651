"""The pages of tools, checks, assignments, tokens and calls."""

from tools.admin import assignments, calls, catalog, tokens

__all__ = ["assignments", "calls", "catalog", "tokens"]
