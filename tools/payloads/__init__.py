"""Untrusted JSON, handled so that none of it holds up the event loop.

`raw_json` keeps large JSON as bytes, `untrusted` parses and checks what was received, and `splitting` takes what is too
large out of a result. Nothing here uses Django, rows or sockets. Begin with `raw_json`.
"""
