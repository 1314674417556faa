"""A real browser for the tests."""

from tests.pages.conftest import browser

__all__ = ["browser"]
