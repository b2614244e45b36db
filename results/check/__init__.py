"""Whether what was measured became worse: what may be compared, screen, confirmation, power, baselines, verdicts."""
