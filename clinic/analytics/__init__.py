"""What the clinic learns: each event recorded once, and what it adds up to.

========================  ========================================================================
``recorded.py``           what is kept of an event
``recording.py``          record events, however often they are delivered
``counts.py``             count what was recorded, many events in one statement
``differences.py``        compare the counts with what was recorded
``hours.py``              when offices and doctors are open, as the registry says now
``hours_queries.py``      ... and as it said when their minutes were counted
``counting.py``           the service that counts, and whoever cannot wait for it
``queries.py``            what was recorded and what it adds up to, one function a statement
``report.py``             the numbers over a range of days
``endpoints.py``          the same over HTTP
========================  ========================================================================
"""
