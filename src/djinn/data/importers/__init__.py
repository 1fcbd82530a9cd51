"""Ways to fill a data set: from video files and from games."""
