"""Which files hold the genomes to predict, and which of them this process predicts."""

import dataclasses
import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.inference.writers import safe_names

PACKED = (".gz",)
SEQUENCES = (".fa", ".fas", ".fasta", ".fna", ".gb", ".gbk", ".gbff", ".genbank")
ANNOTATIONS = (".gff3", ".gff")


@dataclasses.dataclass(frozen=True, slots=True)
class GenomeFile:
  """One genome to predict.

  Attributes:
    path: FASTA or GenBank.
    annotation: GFF3, if there is one.
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
    genbank = _suffix(self.path) in SEQUENCES[4:]
    return int(self.bytes * (3.5 if self.path.suffix in PACKED else 1.0) / (2.3 if genbank else 1))


def find_genome_files(
  paths: Sequence[Path], listed: Path | None, annotation: Path | None, reserved: Sequence[str] = ()
) -> list[GenomeFile]:
  """Finds the genomes that the command line names.

  Args:
    paths: files, and folders whose FASTA and GenBank files are taken (not those of folders within).
    listed: a file with a path a line and, after a tab, its GFF3 if it has one.
    annotation: a GFF3 for a single genome; or a folder with one of the same stem for each.
    reserved: names that no genome's folder may have.

  Returns:
    Genomes in order, each file once. With one file and neither folder nor list, one without a
    folder of its own.

  Raises:
    ConfigError: there is none; or one annotation for several genomes.
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
        "GFF3 of the same stem for each, or name them in the second column of --list"
      )
    found = {path: annotation for path in found}
  elif annotation is not None:
    found = {path: gff or _of_stem(annotation, stem(path)) for path, gff in found.items()}
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
      f"{' '.join(SEQUENCES)}, also with .gz"
    )
  return files


def _read_list(path: Path) -> list[tuple[Path, Path | None]]:
  """Reads paths, and the annotations beside them."""
  rows = []
  for words in read_table(path, "--list"):
    if words[0].startswith((">", "LOCUS ")):
      raise DataError(f"--list={path}: holds sequences; expected a path a line (--fasta takes it)")
    if len(words) > 2:
      raise DataError(f"{path}: {len(words)} columns in {words}; expected a path and its GFF3")
    rows.append((Path(words[0]), Path(words[1]) if len(words) == 2 else None))
  return rows


def read_table(path: Path, flag: str) -> list[list[str]]:
  """Reads the rows of a tab-separated text file, without empty lines and comments.

  Raises:
    DataError: it can not be read, or has no row.
  """
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise DataError(f"{flag}={path}: can not be read: {error}") from error
  rows = [[word.strip() for word in line.split("\t")] for line in lines]
  rows = [row for row in rows if row[0] and not row[0].startswith("#")]
  if not rows:
    raise DataError(f"{flag}={path}: empty")
  return rows


def _of_stem(folder: Path, name: str) -> Path | None:
  """Finds the GFF3 of a stem in a folder."""
  names = [name + suffix + packed for suffix in ANNOTATIONS for packed in ("", *PACKED)]
  return next((folder / n for n in names if (folder / n).is_file()), None)


def _suffix(path: Path) -> str:
  """Returns the ending without .gz, in lower case."""
  return Path(path.name.removesuffix(".gz")).suffix.lower()


def stem(path: Path) -> str:
  """Returns a file's name without its endings."""
  name = path.name.removesuffix(".gz")
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
