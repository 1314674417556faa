"""Measure the clinic beside its peers and its limits, in one run; ``README.md`` says how.

========================  ========================================================================
``run.py``                the door: which rows there are, measure them, write the table
``booking.py``            rows: POST, on PostgreSQL and SQLite, one by one and at half its rate
``travelling.py``         rows: the relay, the consumer, both together with booking
``reading.py``            rows: the list, and pages of it
``starting.py``           rows: the start, and the generator's own check
``rounds.py``             interleaved rounds and what is made of them
``table.py``              lines, ratios, and the table where the README quotes it
``servers.py``            the throw-away servers, and programs that run on them
``fill.py``               every statement that knows the clinic's tables
``load.py``               the load: wrk with ``load.lua``, and ``steady.py`` for constant rates
``simulation.py``         the pipeline past one machine, as a queueing simulation
========================  ========================================================================

Peers: ``usual.py``, ``older.py``, ``faststream_consumer.py``, ``dramatiq_consumer.py``. Limits:
``echo.py``, ``bare_publisher.py``, ``noop_consumer.py``, ``disk.py``; ``pgbench`` and ``psql`` by
``fill.py``.
"""
