"""What the official SDK says of arguments that travel in headers (`x-mcp-header`), without the rest of the SDK.

`import mcp` loads its clients and servers with their web frameworks: a third of what a worker takes to start, in time
and in memory. The module that is used here is pure, and so it is loaded by its file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

_NAME = "mcp.shared.inbound"


def _load() -> ModuleType:
    if _NAME in sys.modules:  # somebody has imported the whole SDK
        return sys.modules[_NAME]
    package = find_spec("mcp")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(_NAME)
    spec = spec_from_file_location("mcp_shared_inbound", Path(package.origin).parent / "shared" / "inbound.py")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(_NAME)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


_inbound = _load()
encode_header_value: Callable[[str], str] = _inbound.encode_header_value
find_invalid_x_mcp_header: Callable[[Any], str | None] = _inbound.find_invalid_x_mcp_header
mcp_param_headers: Callable[[Mapping[tuple[str, ...], str], Mapping[str, Any]], dict[str, str]]
mcp_param_headers = _inbound.mcp_param_headers
x_mcp_header_map: Callable[[Any], dict[tuple[str, ...], str]] = _inbound.x_mcp_header_map
