"""Lets tests here import the module that reads back."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
