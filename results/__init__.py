"""What is known: the store of measured runs, its schema, recovery, export and report. Never imports torch.

Read in this order: `results.schema` (tables and columns), `results.store` (write-once files, reader, RunWriter),
`results.journal` (what a running attempt leaves on disk), `results.identity` (what may be compared),
`results.statistics`, `results.recover`, `results.report`, `results.export`.
"""

__all__ = [
    "durable", "export", "files", "identity", "journal", "recover", "report", "schema", "statistics", "store", "words",
]  # fmt: skip
