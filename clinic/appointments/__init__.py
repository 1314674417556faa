"""What the clinic does: appointments, and who has which office and which doctor when.

========================  ========================================================================
``appointment.py``        the appointment: what it is, and what may become of it
``requests.py``           what a client may ask for, and how each field is judged
``names.py``              what a name may be, and the key by which it is searched for
``wall_clock.py``         the clinic's time of day, and the times that do not exist
``occupancy.py``          who has which office and doctor when, and when they are free
``queries.py``            the appointment's table, one function a statement
``desk.py``               the book, the log of what was done, and the house rules
``booking.py``            book: one writer takes all bookings that wait
``idempotency.py``        the same request again gets the same answer
``changing.py``           change: move, correct, say what became of it
``search.py``             what a client may look for
``listing.py``            the list, piece by piece and page by page
``spreadsheet.py``        the list as CSV
``feed.py``               the list as a calendar
``routes.py``             the same over HTTP
``refusals.py``           what the clinic says no to, explained
``description.py``        all of it described
========================  ========================================================================
"""
