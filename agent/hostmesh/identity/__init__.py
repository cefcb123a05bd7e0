"""Certificates: schedule (pure), manager, CA client, enrolment of the node."""
