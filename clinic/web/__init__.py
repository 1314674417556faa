"""HTTP as a service.

========================  ========================================================================
``problems.py``           what went wrong, as problem details (RFC 9457)
``reading.py``            read a request's body and parameters, or say what is wrong with them
``conditions.py``         conditional requests: entity tags made of versions
``application.py``        routes and errors put together
``health.py``             is the process alive, is it of use
``server.py``             listen, serve, and end clients that waste our time
========================  ========================================================================
"""
