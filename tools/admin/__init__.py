"""The pages of tools, checks, assignments, tokens and calls."""

from tools.admin import assignments, calls, catalogue, tokens

__all__ = ["assignments", "calls", "catalogue", "tokens"]
