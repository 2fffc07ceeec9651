"""Lists of large tables: of a row, only what a column shows is read.

Lists of tables that grow without end (`LargeList`) show one page at a time, and no row is ever counted: a page reads
the rows that it shows and one more, which tells whether there are older ones. Such a list has one order, that of its
index. A search looks at the newest rows only: whoever looks for an older one narrows the list first.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from connections.row_links import LinkingList
from connections.tenancy import LONGEST_SEARCH

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

SEARCHED: Final = 20_000  # rows, of those that the filters leave
MOST_PAGES: Final = 200


class Light(LinkingList):
    """A list that reads of its rows only what it shows."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Return the rows without what no column shows."""
        rows: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        page: Any = self.model_admin  # a LightList
        return rows.defer(*page.unlisted)


class LookAhead(Light):
    """A page of a list of which nobody knows how long it is."""

    looks_ahead = True
    more = False  # whether there are older rows than those of this page
    first = 1  # the number of the first row of this page

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return the one order of the list, whatever the query string asks for."""
        return list(self._get_default_ordering())  # type: ignore[attr-defined]

    def get_results(self, request: HttpRequest) -> None:
        """Read one page; raises IncorrectLookupParameters for one that is not there."""
        before = (self.page_num - 1) * self.list_per_page
        if not 1 <= self.page_num <= MOST_PAGES:
            raise IncorrectLookupParameters
        found = list(self.queryset[before : before + self.list_per_page + 1])
        if not found and before:
            raise IncorrectLookupParameters
        self.first, self.more = before + 1, len(found) > self.list_per_page
        self.result_list = found[: self.list_per_page]
        # As many as are shown: actions are for these, and not for all that nobody has counted.
        self.result_count = len(self.result_list)
        self.full_result_count = None if self.query or self.has_active_filters else self.result_count
        self.show_full_result_count, self.show_admin_actions, self.can_show_all = False, True, False
        self.multi_page, self.paginator = False, Paginator(self.result_list, self.list_per_page)

    @property
    def last(self) -> int:
        """The number of the last row of this page."""
        return self.first + self.result_count - 1

    @property
    def newer(self) -> str:
        """Where the page before is, "" for the first one."""
        return self.get_query_string({PAGE_VAR: self.page_num - 1}) if self.page_num > 1 else ""

    @property
    def older(self) -> str:
        """Where the next page is, "" where there is none."""
        return self.get_query_string({PAGE_VAR: self.page_num + 1}) if self.more and not self.is_cut else ""

    @property
    def is_cut(self) -> bool:
        """Whether there are older rows that only a narrower list shows."""
        return self.more and self.page_num >= MOST_PAGES


class LightList(_ModelAdmin):
    """The pages of a table whose rows are large."""

    unlisted: ClassVar[tuple[str, ...]] = ()  # columns that only the page of a row shows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return what makes the list."""
        return Light


class LargeList(LightList):
    """The pages of a table that grows without end."""

    found_by: ClassVar[tuple[str, ...]] = ("pk",)  # ids with an index
    sortable_by = ()
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return what makes the list."""
        return LookAhead

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search the newest rows; one whose id is given is found however old it is."""
        if not search_term:
            return queryset, False
        if (searched := _as_id(search_term)) is not None:
            by_id = queryset.filter(reduce(or_, (Q(**{name: searched}) for name in self.found_by)))
            if by_id.exists():  # it may also be the id of a request, which has no index
                return by_id, False
        return super().get_search_results(request, self.newest(queryset), search_term)

    def newest(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the newest of these rows: those after the first that is too many."""
        moment = str((self.opts.ordering or ["pk"])[0]).removeprefix("-")
        beyond = rows.values_list(moment, flat=True)[SEARCHED : SEARCHED + 1].first()
        return rows if beyond is None else rows.filter(**{f"{moment}__gt": beyond})


def _as_id(search_term: str) -> str | None:
    try:
        return str(UUID(search_term.strip()[:LONGEST_SEARCH]))
    except ValueError:
        return None
