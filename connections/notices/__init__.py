"""Telling people what needs them: on the start page, by mail and by the organization's webhook.

`notices` opens and resolves them, `delivering` brings them to people, `webhooks` signs and sends (Standard Webhooks),
and `pages` is their list in the admin. What is told of a sign-in is said in `oauth.sign_in_notices`. Begin with
`notices`.
"""
