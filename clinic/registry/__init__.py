"""Who, where and when: offices, doctors and appointment types; when they work.

========================  ========================================================================
``registry.py``           the face: all that can be done with offices and doctors
``schedule.py``           ... and with hours, closures and openings
``importing.py``          ... and closures from files: what that would do, then all of it or nothing
``closure_file.py``       what a file of closures says, and what is wrong with it
``calendar_file.py``      ... an iCalendar file, as public holidays are published
``calendar_events.py``    ... its events, each as icalendar reads it
``recurrence.py``         ... and when they recur
``table_file.py``         ... a table, as people make it
``types.py``              ... and with appointment types
``records.py``            offices, doctors, types: what they are, and why one cannot be had
``names.py``              what a name may be, and the keys by which names are looked up
``wall_clock.py``         the clinic's time of day, and the times that do not exist
``timetable.py``          weekly hours, closures, openings, and what follows from them
``memory.py``             what a process knows of the registry, and when it no longer counts
``requests.py``           what a client may ask for of offices and doctors
``schedule_requests.py``  ... and of the schedule and of types
``queries.py``            the tables of the registry, one function a statement
``imported.py``           ... and of what was imported
``takeover.py``           what a book from before the registry becomes
``endpoints.py``          the same over HTTP: offices and doctors
``schedule_handlers.py``  ... schedule and types: read the request, ask, answer
``schedule_endpoints.py`` ... and each of them described
========================  ========================================================================
"""
