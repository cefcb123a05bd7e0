"""The mesh's values: frozen dataclasses in Istio's words, no I/O and no imports from other rooms."""
