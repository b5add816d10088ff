"""Keeping to a provider's limits, known or not: one :class:`Pacer` for each key.

``gcra`` holds the arithmetic of one limit, ``windows`` that of a limit of hours or days, ``speed`` how the rate is cut
and grows again, ``flow`` what was accepted, ``tokens`` what a request will be charged. What a refusal says: ``order``
brings calls into the order in which they were sent, ``judgement`` tells a limit on the rate from noise, ``cap`` one on
the calls under way, ``gate`` an outage, for which a key rests.
"""

from promptmill._pacing.cap import Cap
from promptmill._pacing.charges import Charge
from promptmill._pacing.gate import LONGEST
from promptmill._pacing.pacer import Learned, Pacer

__all__ = ["LONGEST", "Cap", "Charge", "Learned", "Pacer"]
