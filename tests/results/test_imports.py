"""The store is a leaf: it works where neither torch nor the rest of the suite can be imported."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import results

ROOT = Path(results.__file__).resolve().parents[1]


@pytest.mark.slow
def test_no_module_imports_torch_or_other_packages_of_the_suite():
    modules = [module.name for module in pkgutil.walk_packages(results.__path__, "results.")]
    # Each of these imports a library that is optional, of its own name.
    optional = {f"results.exporters.{name}" for name in ("mlflow", "tensorboard", "wandb")}
    assert optional <= set(modules)
    modules = [name for name in modules if name not in optional]
    assert {"results.store.writer", "results.listing.terminal", "results.recover", "results.export"} <= set(modules)
    code = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
wrong = sorted({{name.partition(".")[0] for name in sys.modules}} & {{"torch", "bench", "launch", "resnet", "kernels"}})
sys.exit(",".join(wrong) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
