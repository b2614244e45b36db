"""What is known: the store of measured runs, its schema, recovery, export and report. Never imports torch.

Read in this order: `results.schema` (tables and columns), `results.store` (write-once files, reader, RunWriter),
`results.journal` (what a running attempt leaves on disk), `results.recover`, `results.report`, `results.export`.
"""

import sys

__all__ = ["export", "files", "journal", "recover", "report", "schema", "stats", "store", "words"]

if sys.argv[:1] == ["-m"]:  # `python -m PACKAGE.MODULE`, which is still to be loaded
    from results.loading import end_at_interrupt

    end_at_interrupt()
