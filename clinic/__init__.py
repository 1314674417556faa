"""An appointment book for clinics: it never double-books, and counts each thing once.

A booking's way, which is also an order to read in::

    HTTP ── validate ── book ──┐ one transaction for many: appointments and their events
                               ▼
                       event log and outbox ── relay ──▶ main queue ── consumer ──▶ recorded once
                                                           ▲              │ failed
                                                      TTL  │              ▼
                                                           └─ dead letter ┤
                                                                          └─ spent ──▶ not solved

The floors; each imports only from those below it (import-linter holds them to that)::

    cli            arguments; a file a command
    roles          which services each role runs
    parts          what the house is made of, each part built when first asked for
    appointments   what the clinic does         | analytics    what the clinic learns
    events         the facts the clinic tells: where the two meet
    web            HTTP as a service            | messaging    how facts travel
    database       open, migrate, transactions; the one place that knows each dialect
    signals        SIGTERM and Ctrl-C stop the services
    supervisor     keeps services running       | settings     the environment, read once
    logs           never holds anybody up       | addresses    URLs that are misread

Only ``cli``, ``roles`` and ``parts`` see the settings; everyone below is handed plain values.

How these very versions of the libraries behave, and which test holds each fact, stands in
``docs/libraries.md``; which words we use for what, in ``docs/style.md``.
"""

__version__ = "0.1.0"
