"""What sequence changes do: variants, in-silico mutagenesis, constructs."""
