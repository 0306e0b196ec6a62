"""The web pages that the console listener serves: finished files, built from the folder ``web`` of the sources."""
