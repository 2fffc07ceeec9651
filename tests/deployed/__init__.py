"""The day of an operator, played under 20 callers: `make deployed`, or `python -m tests.deployed [--quick]`.

`story.py` is what happens, `callers.py` who calls meanwhile and what they count, `processes.py` the production commands
as plain processes, and `engine.py` the same as containers where there is a Docker engine.
"""
