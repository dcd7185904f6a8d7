"""``python -m fsnap``."""

import sys

from fsnap.cli.main import main

sys.exit(main())
