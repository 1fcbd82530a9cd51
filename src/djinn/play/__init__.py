"""Web server and page for playing a world in the browser (extra `play`)."""
