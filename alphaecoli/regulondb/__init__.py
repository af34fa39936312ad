"""RegulonDB's dumps, read as they are."""
