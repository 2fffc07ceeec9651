"""Telling people what needs them: by mail, by the organization's webhook and in its chat.

`notices` opens and resolves those about sign-ins, each told on its own; `letters` has their words, `pages` is their
list in the admin, and `oauth.sign_in_notices` decides what is one. `matters` opens and resolves everything else and
gathers it into bulletins, whose words are in `bulletins`; `tools.calls.awaited` finds the calls. `audit_feed` makes
bulletins of the audit trail, for the webhook alone. `delivering` sends all of it, `webhooks` signs (Standard Webhooks),
and `channels` tells the channel of a chat, which is set on `channel_page`. `choices` is where everybody chooses their
mails. Begin with `notices`.
"""
