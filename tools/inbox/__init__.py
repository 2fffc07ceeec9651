"""What waits for a person, in one place: approvals, questions, sign-ins, tools to review, connections that broke.

`things` finds what waits for whom, so cheaply that each page can count it; `rows` says what each thing is and where it
is decided; `handling` gives a thing to somebody. Nothing is stored but who has what: a thing that is done leaves by
itself. Begin with `things`.
"""
