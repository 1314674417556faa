"""Who, where and when: offices, doctors and appointment types; when they work.

========================  ========================================================================
``registry.py``           the face: all that can be done with offices and doctors
``records.py``            offices, doctors, types: what they are, and why one cannot be had
``names.py``              what a name may be, and the keys by which names are looked up
``timetable.py``          weekly hours, closures, openings, and what follows from them
``memory.py``             what a process knows of the registry, and when it no longer counts
``requests.py``           what a client may ask of the registry
``queries.py``            the tables of the registry, one function a statement
``takeover.py``           what a book from before the registry becomes
``endpoints.py``          the same over HTTP
========================  ========================================================================
"""
