"""How facts travel: from the event log over a broker to the consumer that records them.

========================  ========================================================================
``message.py``            an event in its envelope
``broker.py``             what every broker promises
``embedded.py``           the broker that lives in the clinic's own database
``rabbitmq/``             the broker on a RabbitMQ server
``outbox.py``             the event log, and which of its events are open
``following.py``          the event log by position, as it grows, for those who show it
``relay.py``              publish open events
``settlement.py``         what becomes of a message that was tried: the whole retry policy
``consumer.py``           take messages, have them handled, settle them
``journal.py``            what the consumer writes down of its failures, beside settlement:
``attempts.py``           ... each delivery that failed, without anything of its message
``set_aside.py``          ... the index of what is set aside
========================  ========================================================================
"""
