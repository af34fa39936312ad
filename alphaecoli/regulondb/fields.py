"""Numbers, texts, nested objects and positions of documents.

The one place where 1-based becomes 0-based.
"""

import math
from collections.abc import Mapping
from typing import Any

from alphaecoli.genomics.genes import one_line

ID_KEYS = ("_id", "id", "gene_id")  # of nested objects: since 2023, and before


def parse_number(value: Any) -> float | None:
  """Parses a number or a numeric string as float, maybe NaN or infinite; None if it is neither."""
  if isinstance(value, bool):
    return None
  if isinstance(value, int | float):
    try:
      return float(value)
    except OverflowError:
      return None
  if value is None or (isinstance(value, str) and "_" in value):
    return None
  try:
    return float(text_of(value))  # also bson's Decimal128
  except ValueError:
    return None


def text_of(value: Any) -> str:
  """Returns a scalar as one line of text without tabs; "" for null, documents and lists."""
  if value is None or isinstance(value, Mapping | list):
    return ""
  return one_line(str(value))


def nested_id(value: Any) -> str:
  """Returns the id of a nested object in any release; "" if it has none."""
  if isinstance(value, Mapping):
    texts = (text_of(value.get(key)) for key in ID_KEYS)
    return next(filter(None, texts), "")
  return text_of(value) if isinstance(value, str) else ""


def objects_of(value: Any) -> list[Any]:
  """Returns a list of nested objects; an empty one for anything else."""
  return value if isinstance(value, list) else []


def position_of(value: Any) -> int | None:
  """Parses a whole number written as number or string; None if it is not one."""
  number = parse_number(value)
  if number is None or not math.isfinite(number) or number != int(number):
    return None
  return int(number)


def interval_of(
  value: Mapping[str, Any], length_bp: int, circular: bool
) -> tuple[int, int] | str | None:
  """Returns the 0-based half-open interval of `leftEndPosition` and `rightEndPosition`.

  A left end beyond the right end means that the interval passes the origin, unless it would then
  cover more than half of the chromosome.

  Returns:
    Start and end; None where one is null or absent; a reason where they are unusable.
  """
  ends = value.get("leftEndPosition"), value.get("rightEndPosition")
  if ends[0] is None or ends[1] is None:
    return None
  left, right = position_of(ends[0]), position_of(ends[1])
  if left is None or right is None:
    return "positions that are not whole numbers"
  if not (1 <= left <= length_bp and 1 <= right <= length_bp):
    return "positions outside the chromosome"
  if left <= right:
    return left - 1, right
  if not circular or right + length_bp - left + 1 > length_bp // 2:
    return "left end beyond right end"
  return left - 1, right + length_bp
