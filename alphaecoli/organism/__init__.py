"""Any organism's annotation and tables, read into the records that RegulonDB's dumps become."""
