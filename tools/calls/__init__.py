"""The life of a call: asked for, admitted, made, answered, ended, and written down before the first byte leaves.

Read `life` first, then `runs` (one run on the server) and `outcomes`; `offers`, `arguments`, `limits` and `ledger` are
what happens before a run. `claiming` and `turns` are the worker's side, `polling` looks at tasks, `answering` handles
what a server asks, `watching` and `pubsub` tell other processes, and `ending`, `retention` and `disclosure` come after.
"""
