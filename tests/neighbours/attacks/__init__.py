"""The attacks by name, in the order of the table."""

from __future__ import annotations

from tests.neighbours.attacks import (
    anonymous,
    dear_pages,
    large_answers,
    name_lookups,
    schemas,
    slow_calls,
    slow_checks,
)

ATTACKS = {
    module.ATTACK.name: module.ATTACK
    for module in (schemas, slow_checks, slow_calls, large_answers, anonymous, dear_pages, name_lookups)
}
