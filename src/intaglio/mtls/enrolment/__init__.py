"""Browser enrolment: security codes, sessions, renewal with the current certificate."""
