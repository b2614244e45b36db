"""The sections of the page, one a module: each makes blocks from evidence, or says what there is none of."""
