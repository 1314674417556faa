"""An appointment book for clinics: it never double-books, and counts each event once.

The way of a booking; the code can be read in the same order::

    HTTP ── validate ── book ──┐ one transaction for many: appointments and their events
                               ▼
                       event log and outbox ── relay ──▶ main queue ── consumer ──▶ recorded once
                                                           ▲              │ failed
                                                      TTL  │              ▼
                                                           └─ dead letter ┤
                                                                          └─ spent ──▶ not solved

The floors; each imports only from those below it (import-linter checks that)::

    cli            arguments; a file a command
    roles          which services each role runs
    parts          the parts of a process, each built when it is first needed
    pages          what a person sees: the front desk in a browser
    operating      see each event's way, and send it round again
    appointments   what the clinic does         | analytics    what the clinic learns
    registry       who and where: offices, doctors, appointment types; when they work
    events         the facts the clinic tells: where the two meet
    access         who may come in, and who did it
    web            HTTP as a service            | messaging    how facts travel
    database       open, migrate, transactions; the one place that knows each dialect
    signals        SIGTERM and Ctrl-C stop the services
    supervisor     keeps services running       | settings     the environment, read once
    logs           a log that blocks nobody    | addresses    URLs that could be misread
    metrics        the numbers that a process counts
    acting         who acts, and by which request

Only ``cli``, ``roles`` and ``parts`` see the settings; the floors below are given plain values.

``docs/libraries.md`` says how these versions of the libraries behave, and which test checks each
fact; ``docs/style.md`` says which words we use for what.
"""

__version__ = "0.1.0"
