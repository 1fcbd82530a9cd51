"""How metrics are shown: HTML report, charts, animations, image grids and text."""
