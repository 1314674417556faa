"""What the clinic learns: each event recorded once, and what it adds up to.

========================  ========================================================================
``recorded.py``           what is kept of an event
``queries.py``            the table of what was recorded, one function a statement
``recording.py``          record events, however often they are delivered
``report.py``             the numbers over a range of days
``endpoints.py``          the same over HTTP
========================  ========================================================================
"""
