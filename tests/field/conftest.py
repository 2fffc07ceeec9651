"""The shop of `tests/tools`, for troubles of the field."""

from tests.tools.conftest import open_shop, shop

__all__ = ["open_shop", "shop"]
