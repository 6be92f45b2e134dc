"""The command ``tinylm``, and ``python -m tinylm``."""

import sys

from tinylm.threads import one_from_the_start


def main() -> int:
    """Run the command line."""
    one_from_the_start()
    from tinylm.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
