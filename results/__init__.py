"""What is known: the store of measured runs, their recovery, export and report. Never imports torch.

Read in this order: `results.store` (tables, files, journal, writer), `results.identity` (what may be compared),
`results.statistics`, `results.recover`, `results.report`, `results.plot`, `results.export`.
"""
