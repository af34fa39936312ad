"""Files that other programs open: BigWig and BigBed, browser sessions, annotated GenBank."""
