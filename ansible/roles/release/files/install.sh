#!/usr/bin/env bash
# install.sh PYTHON DIRECTORY: a virtual environment in DIRECTORY, with what DIRECTORY/source holds:
# pinned requirements and wheels.
set -euo pipefail
umask 022 # the services are not root
python=$1 directory=$2
source=$directory/source

pip() {
    "$directory/bin/python" -m pip --quiet --no-input --disable-pip-version-check install "$@"
}

"$python" -m venv "$directory"
pip --require-hashes -r "$source/install.txt"
pip --require-hashes --no-build-isolation -r "$source/server.txt"
pip --no-deps --no-index "$source"/*.whl
"$directory/bin/python" -m pip --quiet check
