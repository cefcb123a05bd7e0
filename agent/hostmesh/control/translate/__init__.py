"""From checked documents to the mesh's values: pure and deterministic (what istiod derives for ambient)."""

from hostmesh.control.translate.compose import translate
from hostmesh.control.translate.memo import Memo
from hostmesh.control.translate.values import Translation

__all__ = ["Memo", "Translation", "translate"]
