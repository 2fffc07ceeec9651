"""The addresses of people who come in."""

from __future__ import annotations

from django.urls import path

from connections.people import views

urlpatterns = [
    path("join/", views.join, name="join"),
    path("start/", views.start, name="start"),
]
