"""faiss. A generator makes its classes without types, which type checkers misread: hence one untyped name."""

from typing import Any

import faiss as _faiss

faiss: Any = _faiss
