"""python -m deliv_testbed.stager --config FILE"""

import sys

from deliv_testbed.serving import main
from deliv_testbed.stager.server import serve
from deliv_testbed.stager.settings import StagerSettings

if __name__ == "__main__":
    sys.exit(main("stager", StagerSettings, serve))
