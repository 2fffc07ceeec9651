"""The OpenAPI document and its page, which anybody may read: made once by each process, as making it takes 35 ms."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response


@require_GET
def show(request: HttpRequest) -> HttpResponse:
    """Answer with the OpenAPI document."""
    answer = HttpResponse(_document(), content_type=OpenApiJsonRenderer.media_type)
    answer["Content-Disposition"] = 'inline; filename="schema.json"'
    return answer


class Docs(SpectacularSwaggerSplitView):
    """The page of the API: how to begin, and every operation."""

    url_name = "schema"
    template_name = "docs.html"
    authentication_classes = ()
    permission_classes = ()

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Show it, with this installation's own address in what is to be copied."""
        response: Response = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
        if isinstance(response.data, dict):
            response.data["url"] = settings.PUBLIC_URL
        return response


@lru_cache(maxsize=1)
def _document() -> bytes:
    document = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return bytes(OpenApiJsonRenderer().render(document, renderer_context={}))
