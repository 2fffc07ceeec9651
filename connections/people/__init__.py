"""People: how they come in, what they may become, and how they leave.

    inviting    an admin invites by mail, and whoever opens the link joins: invite, send, open_link, join
    starting    the same for the first person of an installation, who founds its first organization
    leaving     a removed member's tokens, sign-ins and browsers end at once; the last admin stays
    forms       what the invited and the first person fill in
    views       the pages behind a link: /join/ and /start/
    members     the pages of the admin about members and invitations

A link holds 256 random bits, of which only a digest is stored. It works once and for so many days, and it opens nothing
for anybody but the address that it was made for. Begin with `inviting`.
"""
