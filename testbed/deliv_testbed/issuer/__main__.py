"""python -m deliv_testbed.issuer --config FILE"""

import sys

from deliv_testbed.issuer.server import serve
from deliv_testbed.issuer.settings import IssuerSettings
from deliv_testbed.serving import main

if __name__ == "__main__":
    sys.exit(main("issuer", IssuerSettings, serve))
