"""The control plane program: documents, translation, xDS, certificate authority, enrolment."""
