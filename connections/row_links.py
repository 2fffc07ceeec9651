"""Links from the rows of a list to their pages, which lead back to the list as it was filtered."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.main import ChangeList


class LinkingList(ChangeList):
    """A list that puts the way back into each link itself.

    Django's own looks for each row at all addresses of the product, to find out that the link leads to a page of the
    same table: a fifth of the time of a filtered list.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the way back, so that nothing else adds it."""
        super().__init__(*args, **kwargs)
        self._way_back = f"?{self.preserved_filters}" if self.preserved_filters else ""
        self.preserved_filters = ""

    def url_for_result(self, result: Any) -> str:
        """Return where the page of a row is, with the way back."""
        return f"{super().url_for_result(result)}{self._way_back}"
