"""Real Debian hosts on one machine, for the deployment tests: systemd, sshd, apt, own addresses.

A *run* is a few hosts that see each other. Each is a systemd-nspawn guest over a copy-on-write view
of one cached Debian root, in its own network namespace, joined to a bridge in the run's *hub*
namespace. Several runs, of several checkouts, live side by side on one machine.

`python -m tools.hosts --help`; docs/develop-deploy.md shows it in use. Needs root and the packages
of purpose `deploy` in tools/packages; only Python's standard library.
"""
