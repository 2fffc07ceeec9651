"""The REST API for programs, under /v1/; each view parses the request, calls one function of `calls`, and responds.

`urls` lists the addresses. `views` is plain Django REST Framework; `calls` and `events` are asynchronous from socket to
socket, because calls wait. `problems` makes every error of the API (RFC 9457), `openapi` and `serializers` describe it
all. Begin with `urls` and `calls`.
"""
