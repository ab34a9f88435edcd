"""All targets by name."""

from __future__ import annotations

from fuzz import bodies, chains, destinations, jwt, names, pem, policies, proxy_info, voms

_ALL = (
    names.TARGET,
    proxy_info.TARGET,
    chains.TARGET,
    *pem.TARGETS,
    *policies.TARGETS,
    *voms.TARGETS,
    *jwt.TARGETS,
    *destinations.TARGETS,
    bodies.TARGET,
)
TARGETS = {target.name: target for target in _ALL}
