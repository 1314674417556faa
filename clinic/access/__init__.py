"""Who may come in, and who did it.

========================  ========================================================================
``guard.py``              lets a request in to an endpoint, or refuses it
``rates.py``              ... how often somebody may ask
``tokens.py``             the face: make, list and revoke tokens; who a token stands for
``token.py``              a token: what it looks like, what it is good for
``file.py``               ... those that stand in a file
``sessions.py``           whoever has signed in need not send the token again, for a while
``audit.py``              who did what, written in the transaction in which it is done
``endpoints.py``          the audit over HTTP
``queries.py``            the tables of tokens and of the audit, one function a statement
========================  ========================================================================
"""
