"""The lab of vagrant/machines.yml by `vagrant up`, in Linux containers on one machine.

vagrant-lxc makes the machines, inside the hub of a run of `tools.hosts`: so none of their packets
leaves by a real interface, and they reach the package registries through the run's proxy only.

`python -m tools.vagrant --help`; vagrant/README.md shows it in use. Needs root, and the packages of
purpose `deploy` in tools/packages, vagrant-lxc among them (Debian 12 has it, 13 does not).
"""
