"""Playing a world in the browser: a small server, one page, one game per visitor (extra `play`)."""
