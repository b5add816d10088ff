"""Keeping to a provider's limits, known or not: one :class:`Pacer` for each key.

``gcra`` holds the arithmetic of one limit, ``windows`` that of a limit of hours or days, ``speed`` how the rate is cut
and grows again, ``flow`` what was accepted, ``tokens`` what a request will be charged, ``gate`` how long a key rests.
"""

from promptmill._pacing.gate import LONGEST
from promptmill._pacing.pacer import Charge, Learned, Pacer

__all__ = ["LONGEST", "Charge", "Learned", "Pacer"]
