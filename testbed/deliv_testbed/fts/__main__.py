"""python -m deliv_testbed.fts --config FILE"""

import sys

from deliv_testbed.fts.server import serve
from deliv_testbed.fts.settings import FtsSettings
from deliv_testbed.serving import main

if __name__ == "__main__":
    sys.exit(main("fts", FtsSettings, serve))
