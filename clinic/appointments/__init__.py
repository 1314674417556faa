"""What the clinic does: appointments, and who has which office and which doctor when.

========================  ========================================================================
``desk.py``               the face: all that can be done with appointments
``appointment.py``        the appointment: what it is, and what may become of it
``requests.py``           what a client may ask for, and how each field is judged
``placing.py``            which office, doctor and type the names in it stand for
``search.py``             what a client may look for in the list and in calendars
``numbers.py``            the numbers of appointments, drawn in advance
``writer.py``             one service takes the bookings that wait and writes them together
``booking.py``            what a batch of bookings does to the book and to the event log
``idempotency.py``        the same request again gets the same answer
``conflicts.py``          what conflicts with an appointment, and what is taken from then on
``availability.py``       when an office and a doctor are free, and the refusal when they are not
``free_time.py``          the next free times, of whoever is asked for
``changing.py``           change: move, correct, say what became of it
``standing.py``           what stands in a closure, and to cancel it together
``reasons.py``            why appointments were changed, beside their events
``privacy.py``            what the book holds of a patient, and to erase it
``retention.py``          ... from appointments that were long ago
``registry_book.py``      what the registry asks the book when something of it changes
``queries.py``            the appointment's table, one function a statement
``listing.py``            the list, piece by piece and page by page
``finding.py``            a patient's appointments, by beginnings of names and ends of phones
``day.py``                one day: its appointments, who waits, who works when
``spreadsheet.py``        the list as CSV
``feed.py``               the list as a calendar
``handlers.py``           the same over HTTP: read the request, ask the desk, answer
``standing_endpoints.py`` ... for what stands in a closure
``endpoints.py``          ... and each of them described
========================  ========================================================================
"""
