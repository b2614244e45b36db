"""The paper's tables and figures, each published figure beside what was measured."""
