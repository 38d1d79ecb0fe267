from __future__ import annotations

from typing import Any, Iterator

import pytest

langchain_tests = pytest.importorskip("langchain_tests")

from langchain_tests.integration_tests import VectorStoreIntegrationTests  # noqa: E402

from sqlite_ivf.langchain import IVFStore  # noqa: E402


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[Any]:
        with IVFStore(self.get_embeddings()) as store:
            yield store
