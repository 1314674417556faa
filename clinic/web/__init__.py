"""HTTP as a service.

========================  ========================================================================
``endpoints.py``          what an endpoint is; routes made from the features' tables of endpoints
``callers.py``            who sends a request, and what they may do
``refusals.py``           refusals, which clients get as problem details (RFC 9457)
``problems.py``           exceptions answered as problem details
``headers.py``            read headers, each as one value or as a list
``reading.py``            read a request's body and parameters, or say what is wrong with them
``conditions.py``         conditional requests: entity tags made of versions
``browsers.py``           what a browser must not do with the clinic for another site's page
``spreadsheet.py``        CSV that is safe to open in a spreadsheet
``streaming.py``          answers that are sent piece by piece
``application.py``        routes and exceptions put together
``leaving.py``            cancel the work for a client that has left
``health.py``             is the process alive, is it ready
``scraping.py``           its numbers, for Prometheus
``description.py``        all that an endpoint may answer
``openapi.py``            the description for programs: an OpenAPI document
``docs.py``               the same over HTTP, and for people: ``docs.html``, ``docs.css``
``server.py``             HTTP as a service: uvicorn with a protocol of our own
``serving/``              that protocol: HTTP/1.1, its limits, and who makes room when full
========================  ========================================================================
"""
