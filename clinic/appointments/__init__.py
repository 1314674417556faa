"""What the clinic does: appointments, and who has which office when.

========================  ========================================================================
``appointment.py``        the appointment, and what a client may ask for
``wall_clock.py``         the clinic's time of day, and the times that do not exist
``queries.py``            the appointment's table, one function a statement
``booking.py``            book
``routes.py``             the same over HTTP
========================  ========================================================================
"""
