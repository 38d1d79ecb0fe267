"""Finds Debian packages like a given one in the texts of examples/data, by SQL and by Table.

    pip install 'sqlite-ivf[numpy]' && python examples/python/texts.py
"""

import sys
from pathlib import Path

import numpy as np

import sqlite_ivf

data = Path(__file__).parents[1] / "data"
texts = (data / "debian-packages.txt").read_text(encoding="utf-8").splitlines()
vectors = np.fromfile(data / "debian-packages.f16", np.float16).reshape(len(texts), 384)

path = sys.argv[1] if len(sys.argv) > 1 else ":memory:"
db = sqlite_ivf.connect(path)
items = sqlite_ivf.Table.create(db, "items", 384, metric="cosine", columns={"+text": "TEXT"})
ids = items.add(vectors, metadata={"text": texts})
items.train(nlist=64)

asked = next(i for i, text in zip(ids, texts) if text.startswith("gnuchess:"))
print("Like gnuchess, by SQL:")
sql = """SELECT text, distance FROM items
          WHERE vec MATCH (SELECT vec FROM items WHERE rowid = ?) AND k = 4 AND rowid != ? ORDER BY distance"""
for text, distance in db.execute(sql, (int(asked), int(asked))):
    print(f"  {distance:.3f}  {text[:90]}")

print("By Table, many at once:")
hits = items.search(vectors[::1100], k=2)
for found in hits.ids:
    one, other = items.get(found, "text")
    print(f"  {one[0][:40]:40}  {other[0][:60]}")
print(f"recall of the default on every 22nd row: {items.recall(vectors[::22], 10).recall:.3f}")
