"""The life of a call: asked for, admitted, made, answered, ended, and written down before the first byte leaves.

Read `life` first, then `opening` (what happens before a run: `offers` with their `versions`, `arguments`, `limits` and
`ledger`), `runs` (one run on the server) and `outcomes`; `sessions` says in which session of a server that remembers a
run happens. `claiming`, `turns` and `queued` are the worker's side, `polling` polls tasks, `logins` is about calls that
wait for somebody to connect, `answering` and `stream_questions` handle what a server asks, `watching` (with
`exchanging`), `looking` and `pubsub` connect processes, `lines` connects event loops with the database, and `ending`,
`retention`, `disclosure` and `again` come after.
"""
