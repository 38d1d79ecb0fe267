"""txtai: the back end ann.dense.sqlite, without the models that the package brings along."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
import types
from pathlib import Path

import numpy as np

from made_up import embed, show

# `import txtai` wants torch. Empty parents let the one module and its base class load alone.
spec = importlib.util.find_spec("txtai")
assert spec is not None and spec.submodule_search_locations
root = Path(next(iter(spec.submodule_search_locations)))
for name in ["txtai", "txtai.ann", "txtai.ann.dense"]:
    module = types.ModuleType(name)
    module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    sys.modules[name] = module
SQLite = importlib.import_module("txtai.ann.dense.sqlite").SQLite

DIM = 16
# More rows than this library trains at; the answers are to stay exact all the same.
data = np.array([embed(f"text {i}", DIM) for i in range(11000)], dtype=np.float32)
more = np.array([embed(f"more {i}", DIM) for i in range(20)], dtype=np.float32)
queries = np.array([embed(f"text {i}", DIM) for i in (3, 77)] + [embed("query", DIM)], dtype=np.float32)

with tempfile.TemporaryDirectory() as folder:
    for quantize in [None, 8, 1]:
        path = str(Path(folder) / f"index{quantize}")
        settings = {"backend": "sqlite", "dimensions": DIM, "sqlite": {"quantize": quantize}}

        def run(ann: "SQLite", what: str) -> None:
            show(f"{quantize} {what} count", ann.count)
            # Of bits many are equally far, so only the distances are compared.
            answers = ann.search(queries, 5)
            show(f"{quantize} {what} search", [[s for _, s in a] for a in answers] if quantize == 1 else answers)

        ann = SQLite(settings)
        show(f"{quantize} index", lambda: ann.index(data))
        run(ann, "first")
        ann.append(more)
        ann.delete([3, 78, 310])
        run(ann, "changed")
        show(f"{quantize} save", lambda: ann.save(path))
        ann.close()
        again = SQLite(settings)
        again.load(path)
        run(again, "loaded")
        again.close()
