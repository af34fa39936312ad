"""The run-time type checker of the tests: whole numbers count as floats, as in PEP 484."""

from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
