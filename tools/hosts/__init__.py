"""Real Debian hosts on one machine, for the deployment tests: systemd, sshd, apt, own addresses.

A *run* is a few hosts that reach each other. Each is a systemd-nspawn guest over a copy-on-write
view of one cached Debian root, in its own network namespace, joined to a bridge in the run's *hub*
namespace. Several runs, of several checkouts, can be up at a time on one machine.

The container runtime is systemd-nspawn; the code here does what nspawn leaves to its caller. Where
systemd is not the machine's PID 1 there is no systemd-machined: no `machinectl`, no registered
guests, so their supervisor and cgroups are ours. nspawn's `--network-bridge` would put the bridge
into the machine's own network, from where packets could leave.

Podman was tried (4.3.1 with crun 1.8.1, `--systemd=always`, a namespace of ours): crun refuses
a machine with hybrid cgroups ("cgroups in hybrid mode not supported"), and with cgroup2 alone it
fails without CAP_SYS_RESOURCE ("setrlimit (RLIM_MEMLOCK): Operation not permitted").

`python -m tools.hosts --help`; docs/develop-deploy.md shows it in use. Needs root and the packages
of purpose `deploy` in tools/packages; only Python's standard library.
"""
