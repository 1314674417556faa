"""Operating the events: see each one's way, send it round again, or set it aside for good.

This floor stands above the features, because it compares what they have.

========================  ========================================================================
``selection.py``          which messages of the index something is about
``queries.py``            the index of not solved, and operations: one function, one statement
``operations.py``         list what is not solved; plan operations, start and stop them
``walking.py``            carry out what is planned: walk through the queue, in chunks
``service.py``            ... in a process; and forget what was kept for long enough
``story.py``              the whole way of each event of an appointment
``requests.py``           what a client may ask
``handlers.py``           the same over HTTP: what is answered
``endpoints.py``          ... and how it is described
========================  ========================================================================
"""
