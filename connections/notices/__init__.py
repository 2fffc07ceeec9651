"""Telling people what needs them: on the start page, by mail and by the organization's webhook.

`notices` opens and resolves those about sign-ins, each told on its own; `letters` has their words, `pages` is their
list in the admin, and `oauth.sign_in_notices` decides what is one. `matters` opens and resolves everything else and
gathers it into bulletins, whose words are in `bulletins`; `tools.calls.awaited` finds the calls. `delivering` sends
both to people, and `webhooks` signs and sends (Standard Webhooks). Begin with `notices`.
"""
