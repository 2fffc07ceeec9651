"""JSON that strangers wrote, handled so that none of it holds up the event loop.

`raw_json` keeps what is large as bytes, `untrusted` reads and judges what came, and `splitting` takes what is too large
out of a result. Nothing here knows of Django, rows or sockets. Begin with `raw_json`.
"""
