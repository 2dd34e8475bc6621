"""`d4e-sfu` with a status page whose hour takes ninety seconds: for the page's test, and for its picture."""

from __future__ import annotations

import sys

from d4e_sfu import server
from d4e_sfu.__main__ import main

if __name__ == "__main__":
    vars(server).update(SAMPLE=0.25)
    sys.exit(main())
