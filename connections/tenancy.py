"""Whose rows a person sees and changes in the admin.

    role        sees                                   changes
    superuser   everything but secrets                 what is the platform's: people, quotas, suspensions
    - acting    the same                               the rows of the organization in which they act (`visits`)
    admin       the rows of their organizations        the same
    member      the same, without calls                nothing
    auditor     the same, with calls                   nothing
    reviewer    connections, tools and checks of all   nothing

A row that a person may not see is missing: every view answers exactly as for an id that never existed.
Django's own model permissions are not used.
"""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Field, ForeignKey, ManyToManyField, Model, QuerySet
from django.forms import BooleanField, ModelChoiceField, ModelMultipleChoiceField
from django.forms import Field as FormField
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from connections import audit, changes, choices, deleting, history, lookups, visits
from connections.models import AuditEvent, Role, Tenant, User
from connections.row_links import LinkingList

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

EVERY_ROLE = frozenset(Role)
ADMINS = frozenset({Role.ADMIN})
ADMINS_AND_AUDITORS = frozenset({Role.ADMIN, Role.AUDITOR})
LONGEST_SEARCH = 200  # characters
_BOX = '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="Choose {}">'
NOTHING_CHOSEN = "None of what you chose is here any more. Nothing was changed."


def person(request: HttpRequest) -> User:
    """Return who is signed in; the admin site has let nobody else through."""
    user = request.user
    if not isinstance(user, User):
        raise PermissionDenied
    if user.is_superuser:
        visits.take_up(request, user)
    return user


def tenants_of(user: User, roles: Collection[str] = EVERY_ROLE) -> QuerySet[Tenant]:
    """Return the tenants in which the user has one of these roles; a superuser looks on everywhere, as auditors do."""
    if user.is_superuser and Role.AUDITOR in roles:
        return Tenant.objects.all()
    return Tenant.objects.filter(pk__in=[tenant for tenant, role in user.roles.items() if role in roles])


def only_tenant(user: User) -> Tenant | None:
    """Return the one tenant that the user may change, or None when there is a choice to make (or none at all)."""
    tenants = list(tenants_of(user, ADMINS)[:2])
    return tenants[0] if len(tenants) == 1 else None


class ClosedAdmin(_ModelAdmin):
    """The base of every admin page: missing means 404, choices are one's own rows, and changes are audited."""

    view_on_site = False
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER

    def changeable(self, request: HttpRequest, rows: QuerySet[Any] | None = None) -> QuerySet[Any]:
        """Return those of the rows (default: all) that this person may change, and so point at from other rows."""
        raise NotImplementedError

    def tenant_of(self, row: Any) -> Tenant | None:
        """Return whose row this is, None for a row of the platform."""
        return None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show the list under the name of what it lists."""
        title = {"title": capfirst(str(self.opts.verbose_name_plural))}
        return super().changelist_view(request, title | (extra_context or {}))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return what makes the list."""
        return LinkingList

    # --- one answer for what is not there and for what is not yours ---

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row; raises Http404 for a stranger's row and for none."""
        row = super().get_object(request, object_id, from_field)
        if row is None:
            raise Http404
        return row

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        """Let rows be looked up by their primary key only."""
        return bool(to_field == self.opts.pk.name)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Let the query string hold what the filters on the page put there themselves, and nothing else.

        A lookup that only begins with a filter's name could read related columns, one bit per response: a whole
        password in a minute.
        """
        if request is None or "\0" in value or lookup not in lookups.of_filters(self, request):
            return False
        return super().lookup_allowed(lookup, value, request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search for no more words than a person types: each is a condition of its own."""
        return super().get_search_results(request, queryset, search_term[:LONGEST_SEARCH])

    def action_checkbox(self, row: Any) -> SafeString:
        """Return the box that chooses a row: Django's, which has a template of its own rendered for each row.

        That took a seventh of the time of a list.
        """
        return format_html(_BOX, ACTION_CHECKBOX_NAME, row.pk, row)

    def response_action(  # type: ignore[override]
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        """Run the action on those of the chosen rows that exist; an id of the wrong form is one that no row has."""
        sent = request.POST.copy()
        ids = [one for one in sent.getlist(ACTION_CHECKBOX_NAME) if self._can_be_id(one)]
        across = BooleanField().to_python(sent.get("select_across"))
        if not across and not queryset.filter(pk__in=ids).exists():
            self.message_user(request, NOTHING_CHOSEN, messages.WARNING)
            return None
        sent.setlist(ACTION_CHECKBOX_NAME, ids)
        request.POST = sent  # type: ignore[assignment]
        return super().response_action(request, queryset)

    def _can_be_id(self, sent: str) -> bool:
        try:
            self.opts.pk.clean(sent, None)
        except ValidationError:
            return False
        return True

    # --- choices ---

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        """Offer, and accept, only rows that this person may change."""
        kwargs["queryset"] = self._choices(db_field, request)
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if field is not None and db_field.related_model is Tenant and person(request).sees_every_organization:
            field.label_from_instance = attrgetter("told_apart")  # type: ignore[method-assign,assignment]
        return field

    def formfield_for_manytomany(
        self, db_field: ManyToManyField[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelMultipleChoiceField[Any] | None:
        """Offer, and accept, only rows that this person may change."""
        kwargs["queryset"] = self._choices(db_field, request)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def _choices(self, db_field: Field[Any, Any], request: HttpRequest) -> QuerySet[Any]:
        target: type[Model] = db_field.remote_field.model  # type: ignore[union-attr]
        if self.admin_site.is_registered(target):
            page = self.admin_site.get_model_admin(target)
            if isinstance(page, ClosedAdmin):
                return page.changeable(request)
        return target._default_manager.none()  # noqa: SLF001 - Django's public name of it

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> FormField | None:
        """Leave out the pop-up links beside a choice: they lead to more views. Of very many, have one named."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        if isinstance(field, ModelChoiceField) and not isinstance(field, ModelMultipleChoiceField):
            choices.name_among_many(field)
        return field

    # --- deleting ---

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Return what is deleted with these rows as counts; whoever may delete a row may delete what belongs to it."""
        _, counts, _, protected = super().get_deleted_objects(objs, request)
        kept = {str(self.opts.verbose_name) for row in objs if not self.has_delete_permission(request, row)}
        return [str(row) for row in objs], counts, kept, protected

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Show what a deletion takes with it, or delete; what may take long comes before its transaction."""
        if request.POST:  # confirmed, as Django sees it
            row = self.get_object(request, unquote(object_id))
            if row is not None and self.has_delete_permission(request, row):
                deleting.let_go(self.model._default_manager.filter(pk=row.pk))  # noqa: SLF001 - Django's public API
        return super().delete_view(request, object_id, extra_context)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete the row, whatever is under way for it."""
        deleting.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete the chosen rows that this person may change."""
        rows = self.changeable(request, queryset)
        deleting.let_go(rows)
        deleting.delete(rows)

    # --- the audit trail in the place of Django's log ---

    def audit(self, request: HttpRequest, verb: str, row: Any, **data: Any) -> None:
        """Record what this person did to the row."""
        audit.record(person(request), f"{self.opts.model_name}.{verb}", row, tenant=self.tenant_of(row), **data)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """Record that the row was made."""
        self.audit(request, "created", obj)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:  # type: ignore[override]
        """Record which fields were changed, and their values before and after as far as everybody may read them."""
        entries = [entry.get("changed", {}) for entry in message] if isinstance(message, list) else []
        values = {name: what for entry in entries for name, what in entry.get("values", {}).items()}
        fields = [field for entry in entries for field in entry.get("fields", [])]
        self.audit(request, "changed", obj, fields=fields, **({"changes": values} if values else {}))

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> list[dict[str, Any]]:
        """Return what was changed, with the values."""
        message: list[dict[str, Any]] = super().construct_change_message(request, form, formsets, add)
        if message and "changed" in message[0] and not add:
            message[0]["changed"]["values"] = changes.of(form, form.changed_data)
        return message

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:  # type: ignore[override]
        """Record that the rows were deleted."""
        for row in queryset:
            self.audit(request, "deleted", row)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the audit events of the row to whoever sees the row."""
        row = self.get_object(request, unquote(object_id))
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        events = AuditEvent.objects.filter(
            tenant=self.tenant_of(row), object_type=self.opts.model_name, object_id=str(row.pk)
        )
        context = {
            **self.admin_site.each_context(request),
            "title": f"History of {row}",
            **history.page_of(row, events, request.GET),
            "object": row,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/object_history.html", context | (extra_context or {}))


class TenantAdmin(ClosedAdmin):
    """The pages of rows that belong to a tenant; `tenant_path` leads from the row to it."""

    tenant_path = "tenant"
    seen_by: Collection[str] = EVERY_ROLE
    changed_by: Collection[str] = ADMINS
    seen_by_reviewers = False

    def tenant_of(self, row: Any) -> Tenant | None:
        """Return whose row this is."""
        for step in self.tenant_path.split("__"):
            row = row if step == "pk" else getattr(row, step)
        return row if isinstance(row, Tenant) else None

    def get_list_display(self, request: HttpRequest) -> Any:
        """Show the slug only to those who see all organizations: to others it tells of one with the same name."""
        columns = super().get_list_display(request)
        apart = person(request).sees_every_organization
        return ["whose" if column == "tenant" and apart else column for column in columns]

    @admin.display(description="organization", ordering="tenant__name")
    def whose(self, row: Any) -> str:
        """Show whose row it is, with the slug."""
        tenant = self.tenant_of(row)
        return tenant.told_apart if tenant else ""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that this person sees."""
        user, rows = person(request), super().get_queryset(request)
        if user.is_superuser or (self.seen_by_reviewers and user.is_reviewer):
            return rows
        return self._within(rows, user, self.seen_by)

    def changeable(self, request: HttpRequest, rows: QuerySet[Any] | None = None) -> QuerySet[Any]:
        """Return those of the rows (default: all) that lie in tenants where this person may change them."""
        rows = super().get_queryset(request) if rows is None else rows
        return self._within(rows, person(request), self.changed_by)

    def _within(self, rows: QuerySet[Any], user: User, roles: Collection[str]) -> QuerySet[Any]:
        tenants = [tenant for tenant, role in user.roles.items() if role in roles]
        return rows.filter(**{f"{self.tenant_path}__in": tenants})

    def _has_role(self, request: HttpRequest, roles: Collection[str], row: Any) -> bool:
        user = person(request)
        if user.is_superuser and Role.AUDITOR in roles:
            return True
        if row is None:
            return any(role in roles for role in user.roles.values())
        tenant = self.tenant_of(row)
        return tenant is not None and user.roles.get(tenant.pk) in roles

    def is_admin(self, request: HttpRequest, row: Any) -> bool:
        """Whether this person acts as an admin of the organization that the row belongs to."""
        return self._has_role(request, ADMINS, row)

    def without_organization(self, request: HttpRequest) -> HttpResponse | None:
        """Lead a superuser to the page that founds an organization while there is none that the row could belong to."""
        if self.tenant_path == "pk" or not person(request).is_superuser or Tenant.objects.exists():
            return None
        what = self.opts.verbose_name_plural
        messages.info(request, f"There is no organization yet, and {what} belong to one. It needs only a name.")
        return redirect("start")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show or save the form of a new row."""
        return self.without_organization(request) or super().add_view(request, form_url, extra_context)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show the section in the menu to those who see a page of it."""
        return isinstance(request.user, User) and self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let in people with a role that sees the rows, and reviewers where they review."""
        return (self.seen_by_reviewers and person(request).is_reviewer) or self._has_role(request, self.seen_by, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let people add who may change rows in at least one tenant; the form offers only such tenants."""
        return self._has_role(request, self.changed_by, None)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people change who have the role for it in the row's own tenant."""
        return self._has_role(request, self.changed_by, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people delete who may change."""
        return self.has_change_permission(request, obj)


class ReadOnlyAdmin(TenantAdmin):
    """Pages of rows that the product writes and people only read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds such a row."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes such a row."""
        return False


class SuperuserAdmin(ClosedAdmin):
    """Pages of rows that belong to the platform."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return all rows to a superuser, to others none."""
        return self.changeable(request, super().get_queryset(request))

    def changeable(self, request: HttpRequest, rows: QuerySet[Any] | None = None) -> QuerySet[Any]:
        """Return all of the rows to a superuser, to others none."""
        rows = super().get_queryset(request) if rows is None else rows
        return rows if person(request).is_superuser else rows.none()

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show it to superusers."""
        return isinstance(request.user, User) and request.user.is_superuser

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let in superusers."""
        return person(request).is_superuser

    has_change_permission = has_delete_permission = has_view_permission

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let in superusers."""
        return person(request).is_superuser
