"""What tests on a simulated device share."""

from __future__ import annotations

from model.conftest import zoo

__all__ = ["zoo"]
