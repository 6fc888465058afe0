"""`python -m aligner.cli`, for where the `aligner` script is not on the path."""

import sys

from aligner.cli import main

if __name__ == "__main__":
    sys.exit(main())
