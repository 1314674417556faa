"""URLs with a user and a password in them, and how they are misread."""

import re

ADVICE = (
    "in user and password, write the characters / ? # @ : % as %2F %3F %23 %40 %3A %25, "
    "and leave out line breaks and blanks"
)

# No percent-encoded octet (RFC 3986, 2.1), or a character that no URL has.
NOT_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})|[\x00-\x20\x7f]")


def is_misread(url: str) -> bool:
    """Tell whether something in a URL must be percent-encoded, and is not.

    After a raw ``/ ? # @`` in the password, its rest is taken for a host, a port or a name, and so
    appears in messages; the meaning of a raw ``%`` depends on the next characters. Nothing else in
    the clinic's URLs has an ``@``.
    """
    _, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return bool(NOT_ENCODED.search(url)) or rest.count("@") > min(1, authority.count("@"))
