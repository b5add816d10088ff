"""The desk of ``tests/support/desk.py``, and the simulator its jobs talk to, as fixtures."""

from __future__ import annotations

from desk import desk, desk_for, sim, simulate

__all__ = ["desk", "desk_for", "sim", "simulate"]
