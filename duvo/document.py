"""The OpenAPI document, which anybody may read: made once by each process, because making it takes 35 ms."""

from __future__ import annotations

from functools import lru_cache

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer


@require_GET
def show(request: HttpRequest) -> HttpResponse:
    """Answer with the OpenAPI document."""
    answer = HttpResponse(_document(), content_type=OpenApiJsonRenderer.media_type)
    answer["Content-Disposition"] = 'inline; filename="schema.json"'
    return answer


@lru_cache(maxsize=1)
def _document() -> bytes:
    document = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return bytes(OpenApiJsonRenderer().render(document, renderer_context={}))
