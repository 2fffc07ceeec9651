"""What a server offers: a connection is checked, its tools are listed, and what changed waits for a person.

`probing` is one check, stage by stage. `upstream` turns a connection into a server for the MCP client, `access` finds
out whether the credential is accepted, `listing` compares what is offered with what we know, and `report` shows it all
to people. Begin with `probing`.
"""
