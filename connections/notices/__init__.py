"""Telling people what needs them: on the start page, by mail and by the organization's webhook.

`notices` opens and resolves them, `delivering` sends them to people, `webhooks` signs and sends (Standard Webhooks),
and `pages` is their list in the admin. `oauth.sign_in_notices` decides what is a notice about a sign-in. Begin with
`notices`.
"""
