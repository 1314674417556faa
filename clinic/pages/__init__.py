"""What a person sees: the pages of the front desk, on the verbs that the API stands on.

==================  ==============================================================================
``front.py``        what the pages are made of, and the one way in which a page is answered
``table.py``        which page is at which address
``day.py``          the day: its grid and its list, worked out from what the desk says
``day_page.py``     ... as a page; and the one button of each appointment
``booking.py``      the form by which appointments are booked, changed and moved
``card.py``         one appointment: everything, its history, what can be done with it
``signing_in.py``   the page on which one signs in with a token
``finding.py``      a patient's appointments
``live.py``         what others do, as it happens: server-sent events
``forms.py``        what a form sends, in the words of the API's models
``refusing.py``     a refusal as a page: what happened, and what to do
``languages.py``    texts, plurals and dates in each language; which one a browser asks for
``russian.py``      the Russian texts
``assets.py``       style sheet, script and icon: names with a hash, kept for ever by browsers
``templates/``      Jinja2, everything escaped
``static/``         what browsers load besides
==================  ==============================================================================

They need no script: each is complete HTML, and each thing that can be done is a link or a form.
The script, one file of our own, does the same without loading the whole page: it sends the form,
takes the page that is answered, and puts into place what is different. So there is one way in which
things are shown, and nothing that only works with it but keys, suggestions, and what others do. A
library such as htmx was weighed: 13 KB compressed, and what most of the script is for (keys, one
poll for all screens, blocks that keep their focus) would be ours all the same. The script has 5 KB.

No page has a style or a script in it: the Content-Security-Policy allows only ours, so that nothing
that somebody types can run. A block's place comes from classes for hours and minutes.
"""
