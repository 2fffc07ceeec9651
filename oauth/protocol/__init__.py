"""OAuth as plain functions, without rows and sockets: what documents say, and what is decided from them.

`metadata` reads documents (RFC 8414, RFC 9728), `challenges` reads a 401 (RFC 6750), `discovery` yields which document
to ask for next (`steps` are what it asks for and concludes), `choices` decides on client, method, scopes and renewal,
and `providers` knows what the metadata of well-known providers omit. Begin with `discovery`.
"""
