"""Networks and their weights. Knows torch; no video, no files but weights."""
