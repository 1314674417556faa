"""HTTP/1.1 on sockets: between uvicorn, which accepts, and the application, which answers.

==================  ==============================================================================
``limits.py``       what a client may send, hold and make us wait for, in one table
``listening.py``    sockets that listen
``connection.py``   one connection: requests, one after the other, and their responses
``incoming.py``     what has arrived: bytes in; heads and bodies out
``heads.py``        a head: judged by llhttp, framed by RFC 9112, told as ASGI does
``bodies.py``       a body: where it ends, by its length or by its chunks
``exchange.py``     one request and its response, as the application sees them
``outgoing.py``     what is written, and whether the client takes it
``refusals.py``     answers that are given without the application
``crowd.py``        all connections: who keeps us waiting, and who makes room when full
``tally.py``        many occurrences of the same thing are one line a minute in the log
==================  ==============================================================================

Why a protocol of our own, and not uvicorn's
--------------------------------------------

uvicorn's protocols are made for use behind a proxy that judges and bounds requests; the clinic has
to stand alone, too. Three ways were tried. The table has what the protocol itself takes for a
request and its answer (the application and the socket do nothing, on uvloop), in instructions,
which do not vary with the machine's load:

===========================================================================  =======
uvicorn's httptools protocol, as it comes                                    120,700
a subclass of it with a deadline, a limit, and one packet for an answer      148,200
ours                                                                         143,300
uvicorn's h11 protocol, as it comes                                          575,900
===========================================================================  =======

* **A subclass** of uvicorn's httptools protocol would have to replace nearly all of its methods.
  Its faults are inside llhttp, or between llhttp and httptools: it ends a message
  at its head when it sees ``Upgrade``, and takes the body for the next request; it hands out
  trailers as headers, without a limit; a line that comes in pieces is copied for each of them. And
  uvicorn's response knows nothing of HTTP/1.0, of clients that take nothing, or of places needed.
* **h11** is right in most of that, but takes four times as long: a booking would take nearly twice
  what it does. Limits of time and of connections are no part of it, either.
* **Ours** gives llhttp (by httptools; many have attacked it) whole heads only, each to a parser of
  its own, of 16 KiB at most. What llhttp makes of bodies does not matter: where a body ends is
  decided here, in 140 lines that the tests hold against h11. Timers are no part of a request, for
  ``crowd.py`` looks at everyone ten times a second.

uvicorn still accepts connections, ticks, keeps the date and orders a stop. We use its
``Server`` (``startup``, ``on_tick``, ``shutdown``, ``capture_signals``, ``servers``, ``started``),
``Config`` (``http``, ``loaded_app``) and ``ServerState`` (``connections``, whose
members have a method ``shutdown``, ``tasks``, ``default_headers``); tests/web/test_server.py checks
how they behave.
"""
