"""Runs the PostgreSQL server of one test run and ends with it.

``python postgres_supervisor.py FOLDER CONTROLLER_PID`` prints one line on standard output when the migrated template
database is ready, then waits until the pytest controller is gone (however it went) and removes everything.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
from pathlib import Path

import psycopg

import intaglio.tables  # noqa: F401 - the catalogue must be complete before it is migrated
from intaglio.db.embedded import EmbeddedPostgres
from intaglio.db.migrate import migrate


def main(folder: Path, controller: int) -> None:
    controller_ended = os.pidfd_open(controller)
    for interrupt in (signal.SIGINT, signal.SIGHUP):
        signal.signal(interrupt, signal.SIG_IGN)  # the terminal's Ctrl-C is for the controller; we follow its end
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = EmbeddedPostgres(folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # log lines must not be taken for the answer
            server.start()
        with psycopg.connect(server.url, autocommit=True) as connection:
            # A test database need not survive a power cut; killing the server loses nothing either way.
            # Vacuum workers would only be in the way of cloning.
            for setting in ("fsync = off", "full_page_writes = off", "max_wal_size = '256MB'", "autovacuum = off"):
                connection.execute(f"ALTER SYSTEM SET {setting}")
            with contextlib.suppress(psycopg.errors.UndefinedObject):  # PostgreSQL 18 lets the kernel copy the files
                connection.execute("ALTER SYSTEM SET file_copy_method = 'clone'")
            connection.execute("SELECT pg_reload_conf()")
        with contextlib.redirect_stdout(sys.stderr):
            migrate(server.url)
        print(server.url, flush=True)
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.close()
        select.select([controller_ended], [], [])
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
