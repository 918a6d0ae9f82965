"""Search and embedding for others: over REST, on a page, and as a job."""
