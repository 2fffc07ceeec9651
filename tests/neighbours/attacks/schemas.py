"""Tools whose JSON Schemas are dear to compile or to check, called with arguments made for them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from tests.neighbours.hostile import Behaviour, Request, tool
from tests.neighbours.plan import PAUSE, Attack, Ground, Wanted

PATTERNS = 1_000  # 7 s to compile, 0.9 GB
CHOICES = 2_300  # a schema of 88 KB
CHOSEN = orjson.dumps({"list": [{f"k{CHOICES - 1}": 1}] * 36_000})  # 430 KB, each of which is the last choice
NUMBERS = orjson.dumps({"list": [7] * 500_000})
FIELDS = 90


def _patterns(number: int, salt: str) -> dict[str, Any]:
    """Return properties whose patterns unfold to many states each; with another salt they are others."""
    return {
        f"p{position}": {"type": "string", "pattern": rf"^\p{{L}}{{1,20}}{salt}{position}"}
        for position in range(number)
    }


def _listed(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"list": {"type": "array", "items": items}}}


class _Schemas(Behaviour):
    tools = (
        *(tool(f"patterns{salt}", {"type": "object", "properties": _patterns(PATTERNS, salt)}) for salt in "ab"),
        tool("few_patterns", {"type": "object", "properties": _patterns(100, "c")}),
        tool("choices", _listed({"anyOf": [{"type": "object", "required": [f"k{at}"]} for at in range(CHOICES)]})),
        tool("multiples", _listed({"multipleOf": 1e-300})),
        tool("asks"),
    )

    async def call(self, request: Request) -> None:
        if request.params.get("name") != "asks" or "inputResponses" in request.params:
            await super().call(request)
            return
        form = {"type": "object", "properties": _patterns(FIELDS, "q")}
        asked = {"method": "elicitation/create", "params": {"message": "Your name?", "requestedSchema": form}}
        await request.result({"resultType": "input_required", "inputRequests": {"name": asked}, "requestState": "1"})


async def _run(ground: Ground) -> None:
    async def calls(name: str, arguments: bytes) -> None:
        async with ground.visitor(f"call of {name}", ground.keys.rival_token) as caller:
            while True:
                await caller.call(f"rival__{name}", arguments)
                await asyncio.sleep(PAUSE)

    async def questions() -> None:
        async with ground.visitor("question and answer", ground.keys.rival_token) as caller:
            while True:
                asked = (await caller.call("rival__asks", {})).json()
                content = {f"p{at}": f"name q{at}" for at in range(FIELDS)}
                answer = orjson.dumps({"responses": {"name": {"action": "accept", "content": content}}})
                await caller.ask("POST", f"/v1/calls/{asked.get('id')}/input", answer)
                await asyncio.sleep(PAUSE)

    await ground.all_of(
        calls("patternsa", b'{"p1":"x"}'),
        calls("patternsb", b'{"p1":"x"}'),
        calls("few_patterns", b'{"p1":"x"}'),
        *(calls("choices", CHOSEN) for _ in range(2)),
        *(calls("multiples", NUMBERS) for _ in range(2)),
        questions(),
    )


ATTACK = Attack(
    name="schemas",
    number=8,
    sentence=f"{PATTERNS} patterns, 88 KB of choices x 430 KB, 500,000 numbers x multipleOf 1e-300, a dear question",
    run=_run,
    wanted=(Wanted("rival", "schemas"),),
    behaviours={"schemas": _Schemas},
)
