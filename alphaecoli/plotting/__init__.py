"""Pictures: a region of the chromosome, sequence logos."""
