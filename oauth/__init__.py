"""Signing in to servers: how a connection gets, renews and loses its tokens.

`flow` is the story, in four verbs: begin, complete, fetch tokens, sign out. `discovering` finds out where to sign in,
`ways_in` whether a server wants that at all, `registering` who we are there, `token_endpoint` speaks to it;
`refreshing` and `revoking` renew and give back. `credential_state` derives what people see, and `protocol` holds every
decision as a plain function. Begin with `flow`.
"""
