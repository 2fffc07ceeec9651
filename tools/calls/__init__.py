"""The life of a call: asked for, admitted, made, answered, ended, and written down before the first byte leaves.

Read `life` first, then `runs` (one run on the server) and `outcomes`; `offers`, `arguments`, `limits` and `ledger` are
what happens before a run, and `sessions` says in which session of a server that remembers it happens. `claiming` and
`turns` are the worker's side, `polling` polls tasks, `answering` and `stream_questions` handle what a server asks,
`watching` and `pubsub` connect processes, and `ending`, `retention` and `disclosure` come after.
"""
