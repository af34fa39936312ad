"""Reading a RegulonDB dump: genes, operons and expression from BSON, with a quality report."""
