"""Which files hold the genomes to predict, and which of them this process predicts."""

import dataclasses
import hashlib
import heapq
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.quality import shown
from alphaecoli.genomics.text import PACKED, cut, without_packed
from alphaecoli.inference.writers import safe_names

LOGGER = logging.getLogger(__name__)

GENBANK = (".gb", ".gbk", ".gbff", ".genbank")
SEQUENCES = (".fa", ".fas", ".fasta", ".fna", *GENBANK)
ANNOTATIONS = (".gff3", ".gff", ".gtf", *GENBANK)  # of several of one stem the first is taken


@dataclasses.dataclass(frozen=True, slots=True)
class GenomeFile:
  """One genome to predict.

  Attributes:
    path: FASTA or GenBank.
    annotation: GFF3, GTF or GenBank, if there is one.
    folder: name of its folder among the outputs; "" where the outputs are this genome's alone.
  """

  path: Path
  annotation: Path | None = None
  folder: str = ""

  @property
  def bytes(self) -> int:
    """Returns the size of the file; 0 where there is none."""
    return self.path.stat().st_size if self.path.is_file() else 0

  @property
  def expected_bp(self) -> int:
    """Guesses its bases from the file's size, until it is read."""
    genbank = _suffix(self.path) in GENBANK
    packed = self.path.suffix.lower() in PACKED
    return int(self.bytes * (3.5 if packed else 1.0) / (2.3 if genbank else 1))


def find_genome_files(
  paths: Sequence[Path], listed: Path | None, annotation: Path | None, reserved: Sequence[str] = ()
) -> list[GenomeFile]:
  """Finds the genomes that the command line names.

  Args:
    paths: files, and folders whose FASTA and GenBank files are taken (not those of folders within).
    listed: a file with a path a line and, after a tab, its annotation if it has one.
    annotation: an annotation for a single genome; or a folder with one of the same stem for each.
    reserved: names that no genome's folder may have.

  Returns:
    Genomes in order, each file once. With one file and neither folder nor list, one without a
    folder of its own.

  Raises:
    ConfigError: there is none; or one annotation for several genomes; or a folder of annotations
      has none for any genome.
    DataError: the list can not be read.
  """
  found: dict[Path, Path | None] = {}
  for path in paths:
    found |= dict.fromkeys(_inside(path) if path.is_dir() else [path])
  found |= {path: gff for path, gff in _read_list(listed)} if listed else {}
  if not found:
    raise ConfigError("no genome: give --fasta FILE or --list FILE")
  alone = len(found) == 1 and listed is None and not any(path.is_dir() for path in paths)
  if annotation is not None and not annotation.is_dir():
    if len(found) > 1:
      raise ConfigError(
        f"--annotation={annotation} is one file for {len(found)} genomes; give a folder with a "
        "GFF3, GTF or GenBank of the same stem for each, or name them in --list's second column"
      )
    found = {path: annotation for path in found}
  elif annotation is not None:
    found = _from_folder(annotation, found)
  if alone:
    return [GenomeFile(path, gff) for path, gff in found.items()]
  names = folder_names(list(found), reserved)
  return [GenomeFile(path, gff, names[path]) for path, gff in found.items()]


def _inside(folder: Path) -> list[Path]:
  """Lists the FASTA and GenBank files of a folder, sorted by name."""
  files = [p for p in sorted(folder.iterdir()) if _suffix(p) in SEQUENCES and p.is_file()]
  if not files:
    raise ConfigError(
      f"--fasta={folder}: no genome in this folder; expected files that end in "
      f"{' '.join(SEQUENCES)}, also with {' '.join(PACKED)}"
    )
  return files


def _read_list(path: Path) -> list[tuple[Path, Path | None]]:
  """Reads paths, and the annotations beside them."""
  rows = []
  for words in read_table(path, "--list"):
    if words[0].startswith((">", "LOCUS ")):
      raise DataError(f"--list={path}: holds sequences; expected a path a line (--fasta takes it)")
    if len(words) > 2:
      row = cut(" ".join(words))
      raise DataError(f"{path}: {len(words)} columns in {row}; expected a path and its annotation")
    rows.append((Path(words[0]), Path(words[1]) if len(words) == 2 else None))
  return rows


def read_table(path: Path, flag: str) -> list[list[str]]:
  """Reads the rows of a tab-separated text file, without empty lines and comments.

  Raises:
    DataError: it can not be read, or has no row.
  """
  try:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise DataError(f"{flag}={path}: can not be read: {error}") from error
  rows = [[word.strip() for word in line.split("\t")] for line in lines]
  rows = [row for row in rows if row[0] and not row[0].startswith("#")]
  if not rows:
    raise DataError(f"{flag}={path}: empty")
  return rows


def _from_folder(folder: Path, genomes: Mapping[Path, Path | None]) -> dict[Path, Path | None]:
  """Finds the annotations of genomes in a folder: of the same stem, else but for upper case.

  What is without a counterpart is logged: each genome, and the annotations together.

  Raises:
    ConfigError: no genome has one there.
  """
  files = [p for p in sorted(folder.iterdir()) if _suffix(p) in ANNOTATIONS and p.is_file()]
  files.sort(key=lambda path: ANNOTATIONS.index(_suffix(path)))
  by_stem: dict[str, Path] = {}
  for spell in (str, str.lower):
    for path in files:
      by_stem.setdefault(spell(stem(path)), path)
  found = {
    path: gff or by_stem.get(stem(path)) or by_stem.get(stem(path).lower())
    for path, gff in genomes.items()
  }
  without = [path for path, gff in found.items() if gff is None]
  if len(without) == len(found):
    raise ConfigError(
      f"--annotation={folder}: no annotation of the stem of any genome: it has "
      f"{shown(path.name for path in files) or 'none'}, the genomes are "
      f"{shown(path.name for path in without)}"
    )
  for path in without:
    if _suffix(path) in GENBANK:  # which may bring its genes
      continue
    LOGGER.warning("%s: no annotation of the stem %s in %s", path, stem(path), folder)
  same = {path.resolve() for path in (*found, *filter(None, found.values()))}
  unused = [path.name for path in files if path.resolve() not in same]
  if unused:
    LOGGER.warning("%s: %d files belong to no genome: %s", folder, len(unused), shown(unused))
  return found


def _suffix(path: Path) -> str:
  """Returns the ending without that of a compressed file, in lower case."""
  return Path(without_packed(path.name)).suffix.lower()


def stem(path: Path) -> str:
  """Returns a file's name without its endings."""
  name = without_packed(path.name)
  return Path(name).stem if _suffix(path) in (*SEQUENCES, *ANNOTATIONS) else name


def folder_names(paths: Sequence[Path], reserved: Sequence[str] = ()) -> dict[Path, str]:
  """Names a folder for each file: the first of these that no other file has.

  Its stem, its name, its folder and stem, its stem and a hash of its path. Adding files changes a
  name only where it stops being the only one.
  """
  spellings: list[Callable[[Path], str]] = [
    stem,
    lambda path: path.name,
    lambda path: f"{path.absolute().parent.name}_{stem(path)}",
    lambda path: f"{stem(path)}-{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:12]}",
  ]
  names: dict[Path, str] = {}
  taken = {name.lower() for name in reserved}
  for spell in spellings:
    spelt = {path: safe_names([spell(path)])[0] for path in paths if path not in names}
    count = Counter(name.lower() for name in spelt.values())
    free = {p: n for p, n in spelt.items() if count[n.lower()] == 1 and n.lower() not in taken}
    names |= free
    taken |= {name.lower() for name in spelt.values()}
  return names


def shard(files: Sequence[GenomeFile], index: int, count: int) -> list[GenomeFile]:
  """Chooses the genomes of one process out of several, about the same number of bytes for each.

  The same everywhere where the files are the same, so that processes need not talk: largest first,
  each to the process that has least.

  Raises:
    ConfigError: no such process.
  """
  if not 0 <= index < count:
    raise ConfigError(f"process {index} of {count}; expected 0 to {max(count - 1, 0)}")
  load = [(0, process) for process in range(count)]
  mine = []
  sizes = {file: file.bytes for file in files}
  for file, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0].folder)):
    total, process = heapq.heappop(load)
    heapq.heappush(load, (total + max(size, 1), process))
    if process == index:
      mine.append(file)
  return mine


def find_process(
  index: int | None, count: int | None, environment: Mapping[str, str]
) -> tuple[int, int]:
  """Finds this process among all: by flags, else SLURM or Open MPI, else it is the only one.

  Raises:
    ConfigError: one flag without the other.
  """
  if (index is None) != (count is None):
    raise ConfigError("--process-index and --process-count go together")
  if index is not None and count is not None:
    return index, count
  for rank, size in (
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # of the step: a batch script alone has one task
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
  ):
    if environment.get(rank, "").isdecimal() and environment.get(size, "").isdecimal():
      return int(environment[rank]), int(environment[size])
  return 0, 1
