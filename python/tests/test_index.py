from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest

from conftest import nearest, needs, random
from sqlite_ivf import Table, connect, index
from sqlite_ivf.index import IndexFlatIP, IndexFlatL2, IndexIVFFlat, SearchParams

XB, XQ = random(4000, 16), random(40, 16, 1)


def trained(**options: Any) -> IndexIVFFlat:
    made = IndexIVFFlat(16, nlist=32, nprobe=8, **options)
    made.train(XB[:1000])
    made.add(XB)
    return made


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_flat_indexes_and_all_lists_give_the_exact_answers(metric: str) -> None:
    flat = IndexFlatL2(16) if metric == "l2" else IndexFlatIP(16)
    flat.add(XB)
    distances, ids = flat.search(XQ, 10)
    assert ids.tolist() == [nearest(XB, query, 10, metric) for query in XQ]
    exact = ((XQ[:, None] - XB[ids]) ** 2).sum(2) if metric == "l2" else (XQ[:, None] * XB[ids]).sum(2)
    assert np.allclose(distances, exact, rtol=1e-5) and distances.dtype == np.float32 and ids.dtype == np.int64
    ivf = trained(metric=metric)
    ivf.nprobe = 10**6
    assert ivf.nprobe == 32
    again = ivf.search(XQ, 10)
    assert (again[0] == distances).all() and (again[1] == ids).all()


def test_answers_do_not_depend_on_mode_or_batch() -> None:
    ivf = trained()
    expected = ivf.search(XQ, 10)
    for mode in ("matrix", "csr", "auto"):
        ivf.search_mode = mode
        for params in (None, SearchParams(candidate_budget=300)):
            together = ivf.search(XQ, 10, params=params)
            alone = [ivf.search(query[None], 10, params=params) for query in XQ]
            assert (together[1] == np.concatenate([ids for _, ids in alone])).all()
            assert params or (together[1] == expected[1]).all()
    with pytest.raises(ValueError, match="search_mode is one of auto, matrix, csr, got 'fast'"):
        ivf.search_mode = "fast"


def test_training_counts_nothing_and_keeps_the_rows_that_are_there() -> None:
    ivf = IndexIVFFlat(16, nlist=32)
    assert (ivf.ntotal, ivf.is_trained) == (0, False)
    for call in (lambda: ivf.add(XB), lambda: ivf.search(XQ, 1), lambda: ivf.range_search(XQ, 1.0)):
        with pytest.raises(RuntimeError, match="is trained before"):
            call()
    with pytest.raises(ValueError, match="32 lists need as many rows to train on, got 31"):
        ivf.train(XB[:31])
    ivf.train(XB[:500])
    assert (ivf.ntotal, ivf.is_trained) == (0, True)
    ivf.add(XB[:1000])
    ivf.train(XB[1000:])
    ivf.add(XB[1000:])
    assert ivf.ntotal == 4000
    ivf.nprobe = 32
    assert ivf.search(XQ, 5)[1].tolist() == [nearest(XB, query, 5) for query in XQ]


def test_training_is_the_same_each_time() -> None:
    first, second = trained(), trained()
    assert (first.search(XQ, 10)[1] == second.search(XQ, 10)[1]).all()


def test_ids_are_given_and_removed() -> None:
    ivf = trained()
    ivf.add_with_ids(XB[:10], np.arange(10) + 10**12)
    ivf.add(XB[:2])
    assert (ivf.reconstruct(10**12 + 11) == XB[1]).all()
    assert ivf.remove_ids(np.array([3, 3, 10**12, 5 * 10**12])) == 2 and ivf.ntotal == 4010
    assert 3 not in ivf.search(XB[3:4], 5)[1]
    with pytest.raises(Exception, match="row 5 exists"):
        ivf.add_with_ids(XB[:1], [5])
    assert (ivf.reconstruct_n(10, 5) == XB[10:15]).all()
    ivf.reset()
    assert (ivf.ntotal, ivf.is_trained) == (0, True)
    ivf.add(XB[:7])
    ivf.nprobe = 32
    distances, ids = ivf.search(XQ[:1], 9)
    assert sorted(ids[0]) == [-1, -1, *range(7)] and np.isposinf(distances[0, 7:]).all()
    product = IndexFlatIP(16)
    assert np.isneginf(product.search(XQ, 2)[0]).all() and (product.search(XQ, 2)[1] == -1).all()


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_a_range_has_all_rows_up_to_its_radius_and_that_one_too(metric: str) -> None:
    ivf = trained(metric=metric)
    ivf.nprobe = 32
    distances, ids = ivf.search(XQ, 30)
    radius = float(distances[0, 20])
    lims, found, labels = ivf.range_search(XQ, radius)
    assert lims[0] == 0 and lims[-1] == len(found) == len(labels) and lims[1] == 21
    assert labels[:21].tolist() == ids[0, :21].tolist() and found[:21].tolist() == distances[0, :21].tolist()
    scores = ((XQ[:, None] - XB) ** 2).sum(2) if metric == "l2" else XQ @ XB.T
    near = (scores <= radius * (1 - 1e-4)) if metric == "l2" else (scores >= radius * (1 + 1e-4))
    assert all(set(np.flatnonzero(near[i])) <= set(labels[lims[i] : lims[i + 1]]) for i in range(len(XQ)))


def test_max_codes_and_budgets_are_kept_to() -> None:
    ivf = trained()
    ivf.max_codes = 100
    ivf.search(XQ, 5)
    assert ivf.last_search_stats["scan"] <= 100 * len(XQ)
    ivf.search(XQ, 5, params=SearchParams(max_codes=0, candidate_budget=50, budget_strategy="uniform", max_codes_cap_per_list=20))
    assert ivf.last_search_stats["scan"] <= 50 * len(XQ)
    ivf.max_codes = 0
    ivf.search(XQ, 5, params=SearchParams(nprobe=3))
    assert ivf.last_search_stats["probe"] == 3 * len(XQ)
    exact = ivf.search(XQ, 5, params=SearchParams(recall_target=1.0))[1]
    assert exact.tolist() == [nearest(XB, query, 5) for query in XQ]
    ivf.search(XQ, 5, params=SearchParams(profile="approx_quality", list_ordering="residual_norm_asc"))
    ivf.search(XQ, 5, params=SearchParams(approximate=True, use_per_list_sizes=True, candidate_budget=40, strict_budget=True))
    assert ivf.last_search_stats["scan"] <= 40 * len(XQ)
    for wrong in ({"budget_strategy": "even"}, {"list_ordering": "proj_desc"}, {"profile": "quick"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is one of"):
            SearchParams(**wrong)  # type: ignore[arg-type]


def test_arguments_that_are_wrong_are_named() -> None:
    calls: List[Tuple[Callable[[], object], str]] = [
        (lambda: IndexFlatL2(0), "d is the number of dimensions"),
        (lambda: IndexIVFFlat(IndexFlatL2(4), 4, 4), "no quantizer"),  # type: ignore[arg-type]
        (lambda: IndexIVFFlat(4, 0), "nlist is a positive number, got 0"),
        (lambda: IndexIVFFlat(4, 4, 0), "nprobe is a positive number, got 0"),
        (lambda: IndexIVFFlat(4, metric="cosine"), "metric is 'l2' or 'ip', got 'cosine'"),
        (lambda: IndexFlatL2(4, dtype="float64"), "dtype is one of float32, float16, bfloat16, got 'float64'"),
        (lambda: trained().search(XQ, 0), "k is a positive number, got 0"),
        (lambda: trained().search(XQ[0], 1), r"queries are a matrix .* got shape \(16,\)"),
        (lambda: trained().search(XQ[:, :5], 1), "vectors have 16 dimensions"),
    ]
    for wrong, words in calls:
        with pytest.raises(ValueError, match=words):
            wrong()
    faiss_numbers = IndexIVFFlat(4, 4, metric=index.METRIC_INNER_PRODUCT)
    assert (faiss_numbers.metric, IndexIVFFlat(4, metric=index.METRIC_L2).nlist) == ("ip", 1024)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_saved_comes_back_with_all_its_settings(tmp_path: Path, dtype: str) -> None:
    file = tmp_path / "index.db"
    ivf = trained(metric="ip", dtype=dtype)
    ivf.nprobe, ivf.max_codes, ivf.search_mode = 5, 1500, "csr"
    expected = ivf.search(XQ, 10)
    for _ in range(2):  # in the place of what is there
        ivf.save(file)
    again = IndexIVFFlat.load(file)
    kept = (again.d, again.metric, again.nlist, again.nprobe, again.max_codes, again.search_mode, again.dtype, again.ntotal)
    assert kept == (16, "ip", 32, 5, 1500, "csr", dtype, 4000)
    assert (again.search(XQ, 10)[1] == expected[1]).all()
    # What is added is in the file, and SQL without settings searches as the index does.
    again.add(XQ)
    again.close()
    db = connect(str(file))
    table = Table(db, "vectors")
    assert len(table) == 4040
    with pytest.raises(ValueError, match="has an IndexIVFFlat: IndexIVFFlat.load opens it"):
        IndexFlatIP.load(file)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        IndexFlatIP.load(tmp_path / "nothing.db")


def test_an_index_lives_in_a_file_and_opens_a_table_made_by_sql(tmp_path: Path) -> None:
    file = tmp_path / "live.db"
    made = IndexFlatL2(16, path=file)
    made.add(XB)
    made.close()
    assert IndexFlatL2.load(file).search(XQ, 1)[1].tolist() == [nearest(XB, query, 1) for query in XQ]
    db = connect(str(tmp_path / "sql.db"))
    db.execute("CREATE VIRTUAL TABLE items USING ivf(e float[16], nlist=20)")
    table = Table(db, "items")
    table.add(XB, range(4000))
    table.train()
    db.close()
    opened = IndexIVFFlat.load(tmp_path / "sql.db", "items")
    assert (opened.nlist, opened.nprobe, opened.is_trained) == (20, 8, True)
    opened.nprobe = 20
    assert opened.search(XQ, 3)[1].tolist() == [nearest(XB, query, 3) for query in XQ]


def test_a_device_that_is_not_here_is_a_warning() -> None:
    ivf = trained()
    assert ivf.to("cpu") is ivf and ivf.cpu() is ivf
    if "made without CUDA" in str(pytest.raises(Exception, ivf.table.command, "device=cuda").value):
        with pytest.warns(RuntimeWarning, match="searches compute on the CPU: device 'cuda:0' is not available"):
            ivf.cuda()
    assert ivf.search(XQ, 1)[1].shape == (40, 1)


def test_the_quickstart_of_torch_ivf_runs_with_the_import_changed() -> None:
    torch = needs("torch")
    d = 32
    torch.manual_seed(0)
    xb = torch.randn(20000, d, device="cpu", dtype=torch.float32)
    xq = torch.randn(2048, d, device="cpu", dtype=torch.float32)

    index = IndexIVFFlat(d=d, nlist=64, nprobe=16, metric="l2").to("cpu")
    index.search_mode = "auto"
    index.train(xb[:4000])
    index.add(xb)

    dist, ids = index.search(xq, k=20)
    assert (dist.shape, ids.shape, dist.dtype, ids.dtype) == ((2048, 20), (2048, 20), torch.float32, torch.int64)
    exact = torch.cdist(xq, xb).topk(20, largest=False).indices
    recall = np.mean([len(set(a.tolist()) & set(b.tolist())) / 20 for a, b in zip(ids, exact)])
    assert recall > 0.6
    assert torch.allclose(dist[0], ((xq[0] - xb[ids[0]]) ** 2).sum(1), rtol=1e-4)
    lims, values, labels = index.range_search(xq[:5], 20.0)
    assert lims.dtype == torch.int64 and (values <= 20).all() and len(labels) == lims[-1]
