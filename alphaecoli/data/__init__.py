"""Windows and the stream of batches."""
