"""The cells of the admin's lists, which say on a narrow screen of which column they are."""

from __future__ import annotations

import re
from typing import Any

from django import template
from django.contrib.admin.utils import label_for_field
from django.contrib.admin.views.main import ChangeList
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_CELL = re.compile(r'<td class="field-(\w+)([^"]*)">(?:([-–])</td>)?')


@register.filter
def with_columns(table: SafeString, changes: ChangeList) -> SafeString:
    """Return a list's table with the title of its column in each cell but the first; a cell of nothing is marked."""
    titles = {_plain(column): _title(column, changes) for column in changes.list_display}

    def told(cell: re.Match[str]) -> str:
        name, more, nothing = cell.groups()
        title = f' data-column="{escape(titles[name])}"' if titles.get(name) else ""
        return f'<td class="field-{name}{more}{" nothing" if nothing else ""}"{title}>' + (
            f"{nothing}</td>" if nothing else ""
        )

    return mark_safe(_CELL.sub(told, table))  # noqa: S308 - the table is safe, and the titles are escaped


def _plain(column: Any) -> str:
    return column if isinstance(column, str) else str(column.__name__)


def _title(column: Any, changes: ChangeList) -> str:
    title = label_for_field(column, changes.model, changes.model_admin)
    return str(title)[:1].upper() + str(title)[1:]
