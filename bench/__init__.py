"""What is measured: one run, from its configuration to its rows."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m PACKAGE.MODULE`, which is still to be loaded
    from results.loading import end_at_interrupt

    end_at_interrupt()
