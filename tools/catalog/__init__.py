"""What a server offers: a connection is checked, its tools are listed, and what changed waits for a person.

`probing` is the story of one check, stage by stage. `upstream` makes a server for the wire client of a row, `access`
finds out whether we are let in, `listing` compares what is offered with what we know, and `report` shows it all to
people. Begin with `probing`.
"""
