"""Files on disk: where they are, and how they are written so that a crash loses nothing."""
