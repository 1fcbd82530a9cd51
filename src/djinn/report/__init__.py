"""Reports of an evaluation: text, HTML with charts and animations, and image grids."""
