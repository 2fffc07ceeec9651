"""The pages of tools, checks, assignments, tokens and calls in the admin, for people.

`catalog` lists tools and checks, `placement` says where a tool's calls run. `assignments`, `consents`, `tokens` and
`token_forms` are the pages of who may call, and `first_call` is what the page of a new token offers to copy. `calls`
shows a call with its `timeline`; `decisions` and `questions` are what people decide and answer there, and `rendering`
shows untrusted arguments and results. `sessions` lists what servers remember, and `activity` counts what was called.
`inbox` lists what waits for a person, and `home` is the start page with its `charts`. Begin with `catalog` and `calls`.
"""

from tools.admin import activity, assignments, calls, catalog, sessions, tokens

__all__ = ["activity", "assignments", "calls", "catalog", "sessions", "tokens"]
