"""People: how they come in, prove who they are, what they may become, and how they leave.

    inviting       an admin invites by mail, and whoever opens the link joins: invite, send_again, open_link, join
    starting       the same for the first person of an installation, who founds its first organization
    leaving        a removed member's tokens, sign-ins and browsers end at once; the last admin stays
    second_factor  apps, passkeys and recovery codes: django-allauth's, with our seals, mails and limits
    resetting      a forgotten password, and another e-mail address: asked for, and proved by a mail
    company        signing in with one's company: begin, complete; `openid` asks the provider, and sees no row
    mails          how these mails are sent
    forms          what people fill in
    views, account, company_pages   the pages at /join/, /start/ and /account/
    members        the pages of the admin about members, invitations and users

A link holds 256 random bits, of which only a digest is stored, or a signature, of which nothing is. It works once, for
some time, and opens nothing for anybody but the person that it was made for. Begin with `inviting`.
"""
