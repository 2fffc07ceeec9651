"""What a tool's definition says, and what may be done with it, without a row or a socket.

`reading` takes an odd definition for what it can only mean, `drift` compares a listing with what is known, `difference`
shows a change to people, `policy` decides whether a tool may be used and under which name. `keywords`, `dialects` and
`patterns` know the drafts of JSON Schema; `expansion` and `schema_cost` measure a schema before `schemas` compiles it;
`checks` checks values against it, in this or in a separate process. Begin with `drift` and `policy`.
"""
