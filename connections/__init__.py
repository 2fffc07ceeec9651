"""Organizations, their people and their connections: who may reach what, with which secret.

`models` are the rows, `tenancy` keeps organizations apart in the admin, `sealing` encrypts secrets, and `audit` records
what people did. `egress` is the only way out to the network, `offload` does heavy work in child processes, `notices`
tell people what needs them. Begin with `models` and `tenancy`.
"""
