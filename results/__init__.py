"""What is known: the store of measured runs, what is said of them, and what is kept. Never imports torch.

Read in this order: `results.store` (tables, files, journal, writer, index), `results.identity` (what may be compared),
`results.statistics`, `results.selection` (how runs are named); then `results.check` (what may be compared, screen,
confirmation, power, baselines, verdicts), `results.baseline` and `results.calibrate`; `results.compare`,
`results.history`, `results.report`, `results.query` and `results.plot`; `results.published` and `results.paper` (the
paper's figures beside what was measured); `results.recover` and `results.export`.
"""

from results.interrupt import end_quietly_as_command

end_quietly_as_command()
