"""Names of the mesh's services: what they resolve to, for whom (a pure function of the mesh's state)."""
