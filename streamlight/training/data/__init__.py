"""Pictures to learn from: found on disk, darkened, kept in a pool, and cut into batches."""
