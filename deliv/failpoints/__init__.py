"""Failpoints: named places between two effects where a test kills, cuts off or hangs deliv.

The service has none: only where the configuration names a directory under `faults` are its parts
built with wrappers (wrappers.py) that have them. A file in that directory that is named like a
point arms that point, once, for whichever instance comes there first; it holds one of

kill           the process ends at once, as by SIGKILL
drop           every network connection of the process is cut; after a call to the stager or to
               FTS, its answer is lost
hang SECONDS   whoever came there waits, then goes on
hold           whoever came there waits until the file is removed, which is POINT.PID.spent by then
"""

from deliv.failpoints.kinds import Kinds, kinds
from deliv.failpoints.points import Failpoints, Point

__all__ = ["Failpoints", "Kinds", "Point", "kinds"]
