"""The filters of lists: they name only what this person sees, and take little room however much that is.

choices       shown as
up to 10      links
up to 250     a select
more          a field for a part of the name
"""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.db.models import Count, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject, cached_property
from django.utils.safestring import SafeString

from connections import choices
from connections.models import Tenant
from connections.states import TROUBLE, Headline, headline, shows
from connections.tenancy import LONGEST_SEARCH, TenantAdmin, person, tenants_of

LINKS = 10
OPTIONS = choices.MOST
_NAMED = 100  # rows of a related table, each by its id
_NAMES = ("enabled", "credential", "reachability", "tools")  # what decides the headline, and its columns
_STATES = ("enabled", "credential_state", "reachability_state", "tools_state")


class CompactFilter(admin.ListFilter):
    """What both filters below share: how their choices are shown."""

    template = "admin/duvo/filter.html"
    found = 0  # how many choices there are
    typed = ""  # the part of a name that was asked for
    kept: tuple[tuple[str, str], ...] = ()  # what else the query string of the list holds

    @property
    def parameter(self) -> str:
        """Return the parameter that the select or the field sends."""
        raise NotImplementedError

    @property
    def shown_as(self) -> str:
        """Return how the choices are shown: links, select or words."""
        return "links" if self.found <= LINKS else "select" if self.found <= OPTIONS else "words"

    def keep(self, changelist: ChangeList) -> None:
        """Note what else the query string holds, so that the form sends it again."""
        own = set(self.expected_parameters())
        self.kept = tuple(
            (name, value) for name, values in changelist.filter_params.items() if name not in own for value in values
        )


class OwnRelatedFilter(CompactFilter, admin.RelatedFieldListFilter):
    """A list filter by another row; it names only rows that this person sees."""

    def __init__(
        self,
        field: Any,
        request: HttpRequest,
        params: dict[str, list[str]],
        model: type[Model],
        model_admin: Any,
        field_path: str,
    ) -> None:
        """Take the chosen row, or a part of the names of the rows that are meant."""
        self.by_name = f"{field_path}_name"
        self.typed = (params.pop(self.by_name, None) or [""])[-1][:LONGEST_SEARCH]
        chosen = f"{field_path}__{field.target_field.name}__exact"
        if params.get(chosen) == [""]:  # "All", as a select sends it
            del params[chosen]
        self._whose = (field.remote_field.model, request, model_admin)
        super().__init__(field, request, params, model, model_admin, field_path)
        self.empty_value_display = SafeString("None")

    @property
    def parameter(self) -> str:
        """Return the parameter for one row, or for a part of its name."""
        return self.by_name if self.shown_as == "words" else str(self.lookup_kwarg)

    def expected_parameters(self) -> list[str | None]:
        """Return what the query string may hold for this filter."""
        return [*super().expected_parameters(), self.by_name]

    @cached_property
    def rows(self) -> QuerySet[Any]:
        """The rows of the other table that this person sees."""
        return self._own(*self._whose)

    @cached_property
    def found(self) -> int:  # type: ignore[override]
        """How many of them there are, as far as it matters."""
        return self.rows[: OPTIONS + 1].count()

    def field_choices(self, field: Any, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> Any:
        """Return the choices, found once they are looked at: a filter is also made to ask what its parameters are."""
        return SimpleLazyObject(lambda: self._choices(field))

    def _choices(self, field: Any) -> Any:
        """Return the choices among one's own rows; of very many only the chosen one."""
        rows = self.rows
        if self.shown_as == "words":
            rows = rows.filter(pk__in=_ids(rows.model, list(self.lookup_val or ())))
        return field.get_choices(include_blank=False, limit_choices_to={"pk__in": rows})

    def has_output(self) -> bool:
        """Show it when there is a choice; where only names are asked for, there is."""
        return self.shown_as == "words" or super().has_output()

    def choices(self, changelist: ChangeList) -> Any:
        """Return the choices with what a select sends for each."""
        self.keep(changelist)
        values = ["", *(str(pk) for pk, _ in self.lookup_choices)]
        for choice, value in zip_longest(super().choices(changelist), values):  # the last one may be "none at all"
            yield choice | {"value": value}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Narrow the list to the chosen row, or to rows with such a name that this person sees."""
        narrowed = super().queryset(request, queryset)
        if not self.typed or narrowed is None:
            return narrowed
        named = self.rows.filter(name__icontains=self.typed)
        # Of rows that are named one by one the database knows how many a large table has, and how to find them.
        found = list(named.values_list("pk", flat=True)[: _NAMED + 1])
        return narrowed.filter(**{f"{self.field_path}__in": found if len(found) <= _NAMED else named})

    @staticmethod
    def _own(model: type[Model], request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> QuerySet[Any]:
        if not model_admin.admin_site.is_registered(model):
            return model._default_manager.none()  # noqa: SLF001 - Django's public name of it
        page = model_admin.admin_site.get_model_admin(model)
        return page.get_queryset(request).order_by().values("pk")


def _ids(model: type[Model], sent: list[str]) -> list[Any]:
    try:
        return [model._meta.pk.to_python(one) for one in sent]  # noqa: SLF001 - Django's documented name
    except ValidationError:
        return []


class TenantFilter(CompactFilter, admin.SimpleListFilter):
    """A list filter by organization, for those who see more than one."""

    title = "organization"
    parameter_name = parameter = "organization"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        """Return the organizations whose rows are in this list for this person; of very many only the chosen one."""
        user = person(request)
        everywhere = user.is_superuser or (
            isinstance(model_admin, TenantAdmin) and model_admin.seen_by_reviewers and user.is_reviewer
        )
        self.tenants, self.tells_slugs = (Tenant.objects.all() if everywhere else tenants_of(user)), everywhere
        self.typed = self.value() or ""
        shown = self.tenants.only("name", "slug")
        found = list(shown[: OPTIONS + 1])
        self.found = len(found)
        if self.shown_as == "words":
            found = list(shown.filter(pk__in=_ids(Tenant, [self.typed])))
        return [(str(tenant.pk), tenant.told_apart if everywhere else tenant.name) for tenant in found]

    def has_output(self) -> bool:
        """Show it only when there is a choice."""
        return self.found > 1

    def choices(self, changelist: ChangeList) -> Any:
        """Return the choices with what a select sends for each."""
        self.keep(changelist)
        values = ["", *(value for value, _ in self.lookup_choices)]
        for choice, value in zip(super().choices(changelist), values, strict=True):
            yield choice | {"value": value}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list; what is neither among the choices nor in one's name finds nothing."""
        value = self.value()
        if not value:
            return queryset
        chosen: list[Any] = [pk for pk, _ in self.lookup_choices if pk == value]
        if not chosen and self.shown_as == "words":
            named = value[:LONGEST_SEARCH].replace("\0", "")
            alike = Q(name__icontains=named) | (Q(slug__icontains=named) if self.tells_slugs else Q())
            chosen = list(self.tenants.filter(alike).order_by().values_list("pk", flat=True))
        return queryset.filter(**{f"{self._path(queryset)}__in": chosen}) if chosen else queryset.none()

    @staticmethod
    def _path(queryset: QuerySet[Any]) -> str:
        page = admin.site.get_model_admin(queryset.model)
        return page.tenant_path if isinstance(page, TenantAdmin) else "tenant"


class HeadlineFilter(admin.SimpleListFilter):
    """By the one word that the list shows."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        """Return every word, after the one for all that need a person."""
        return [("attention", "Needs attention"), *((str(value), str(label)) for value, label in Headline.choices)]

    def choices(self, changelist: ChangeList) -> Any:
        """Return the words with the number of connections of which each is said, those of nothing without one.

        Beside another filter or a search there is none: it would count what these leave out.
        """
        counts = Counter[str]()
        for *states, number in self.rows.order_by().values_list(*_STATES).annotate(number=Count("pk")):
            counts[headline(**dict(zip(_NAMES, states, strict=True)))] += number
        narrowed = changelist.query or changelist.params.keys() - {self.parameter_name, ORDER_VAR}
        counts["attention"] = sum(counts[word] for word in TROUBLE)
        for choice, value in zip(
            super().choices(changelist), ["", *(value for value, _ in self.lookup_choices)], strict=True
        ):
            number = 0 if narrowed else counts[value]
            yield choice | {"display": f"{choice['display']} ({number:,})" if number else choice["display"]}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list."""
        self.rows, value = queryset, self.value()
        if not value:
            return queryset
        if value == "attention":
            return queryset.filter(shows(*TROUBLE))
        return queryset.filter(shows(Headline(value))) if value in Headline.values else queryset.none()


admin.FieldListFilter.register(lambda field: bool(field.remote_field), OwnRelatedFilter, take_priority=True)
