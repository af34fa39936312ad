"""Models in the package and on disk, and small folders for others: `… alphaecoli.models --help`."""

import argparse
import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphaecoli import __version__, cli
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import DEFAULT_MODEL, read_json, write_json

# What computes is imported where it is used: --help and a wrong flag answer at once.
if TYPE_CHECKING:
  from alphaecoli.checkpoints.read import LoadedCheckpoint

DESCRIPTION = """\
Lists models, makes small folders of them, and prints their cards.

  list      the models that ship with the package, whose names stand for them wherever a checkpoint
            is asked for, and those in --folder
  export    a checkpoint, or an ensemble such as the folder of alphaecoli.crossvalidate, as one
            small folder for prediction: plain arrays with checksums, no path of this machine, and
            model_card.json
  card      the card of a model, as Markdown
"""
CARD, CARD_FORMAT, CARD_VERSION = "model_card.json", "alphaecoli-model-card", 1
LISTED = ("model", "members", "organisms", "heads", "MB", "path")
# In the notes of a card: the heading of each list.
NOTES = {
  "licences": "Licences of the data",
  "fails": "Where it fails",
  "not_for": "What it must not be used for",
  "checks": "Further measurements",
}


def main(arguments: Sequence[str]) -> int:
  """Runs the command."""
  options = _options(arguments)
  if options.action == "list":
    _print_table([LISTED, *(_row(*found) for found in _models(options.folder))])
  elif options.action == "export":
    export(options)
  else:
    print(markdown(_card_of(options.checkpoint or DEFAULT_MODEL)), end="")
  return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """Parses the command line."""
  parser = cli.parser("models", DESCRIPTION)
  add = parser.add_argument
  add("action", nargs="?", choices=("list", "export", "card"), default="list")
  add("--folder", type=Path, nargs="+", default=[Path("runs")], help="list: default %(default)s")
  add("--checkpoint", help="export, card: a shipped model, a checkpoint, a run, or an ensemble")
  add("--out", type=Path, help="export: the folder to make")
  add("--name", help="export: what the card calls it; default: the name of --out")
  add(
    "--precision",
    choices=("int8", "int7", "bfloat16", "float32"),
    default="int8",
    help="export: of kernels; int8, int7: with a scale an output channel (default %(default)s)",
  )
  add("--margin-bp", type=int, help="export: margin of prediction; default: as everywhere")
  add(
    "--members", type=int, help="export: most members that predict a base by default; default: all"
  )
  add(
    "--notes",
    type=Path,
    help=f"export: JSON for the card, with lists of sentences ({', '.join(NOTES)}) and a "
    "description; default: the notes of the card that is in --out",
  )
  options = parser.parse_args(list(arguments))
  if options.action == "export" and not (options.checkpoint and options.out):
    raise ConfigError("export: give --checkpoint and --out")
  return options


def _models(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
  """Yields name and path of shipped models, and of the runs and ensembles in folders."""
  from alphaecoli.checkpoints.packed import shipped_models
  from alphaecoli.checkpoints.read import CHECKPOINTS_DIR, find_ensemble

  yield from shipped_models().items()
  for folder in folders:
    for path in (folder, *(path for path in sorted(folder.glob("*")) if path.is_dir())):
      if find_ensemble(path) or (path / CHECKPOINTS_DIR).is_dir() or (path / "meta").is_dir():
        yield path.name, path


def _row(name: str, path: Path) -> tuple[str, ...]:
  """Describes a model in one line; one that can not be read by its fault."""
  from alphaecoli.checkpoints.read import read_description
  from alphaecoli.tracks.track_table import organisms_of, trained_heads

  try:
    described = [read_description(member) for member in _members(path)]
  except DataError as error:
    return name, "", "", f"can not be read: {error}", "", str(path)
  meta, config, table = described[0]
  heads = trained_heads(config.loss.weights, table)
  names = [organism.name for organism in organisms_of(meta)]
  size = sum(_size(member) for member in _members(path)) / 1e6
  return name, str(len(described)), ",".join(names), ",".join(heads), f"{size:.1f}", str(path)


def _members(path: Path) -> list[Path]:
  """Returns the checkpoints of an ensemble, or the one of a run."""
  from alphaecoli.checkpoints.read import find_checkpoint, find_ensemble, read_ensemble

  ensemble = find_ensemble(path)
  found = [find_checkpoint(path)] if ensemble is None else read_ensemble(ensemble)
  return [Path(member) for member in found]


def _size(path: Path) -> int:
  """Adds up the bytes of the files of a folder."""
  return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _print_table(rows: Sequence[Sequence[str]]) -> None:
  """Prints rows in columns."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  for row in rows:
    print("  ".join(map(str.ljust, row, widths)).rstrip())


def export(options: argparse.Namespace) -> None:
  """Writes a model as a folder of packed checkpoints, with the genomes of training and its card.

  Raises:
    UserError: the model can not be read, or the folder not be written.
  """
  from alphaecoli.checkpoints.packed import MARGIN_BP, locate_model, write_packed
  from alphaecoli.checkpoints.read import find_ensemble, open_checkpoint
  from alphaecoli.checkpoints.write import write_ensemble
  from alphaecoli.inference.predictor import short_names

  out, source = options.out, Path(locate_model(options.checkpoint))
  notes = _notes(options)
  paths = _members(source)
  names = short_names(map(str, paths)) if find_ensemble(source) else ("",)
  members, loaded = [], []
  for name, path in zip(names, paths, strict=True):
    checkpoint = open_checkpoint(path)
    params, stats = checkpoint.values()
    values = {"params": params, "stats": stats}
    margin = {} if options.margin_bp is None else {MARGIN_BP: options.margin_bp}
    write_packed(out / name, {**checkpoint.meta, **margin}, values, options.precision)
    members.append(_member(name, checkpoint, sum(value.size for value in params.values())))
    loaded.append(checkpoint)
  if len(names) > 1:
    write_ensemble(out, [out / name for name in names], options.members)
  _write_genomes(out, loaded)
  card = {
    "format": CARD_FORMAT,
    "format_version": CARD_VERSION,
    "name": options.name or out.absolute().name,
    "alphaecoli": __version__,
    "precision": options.precision,
    **_training(loaded[0]),
    "members": members,
    "figures": _figures(source),
    "notes": notes,
  }
  write_json(out / CARD, card)
  cli.LOGGER.info("%s: %d members, %.1f MB", out, len(members), _size(out) / 1e6)


def _notes(options: argparse.Namespace) -> dict[str, Any]:
  """Reads the notes of a card, of the file that is named or of the card that is there."""
  if options.notes:
    notes = read_json(options.notes)
  else:
    older = options.out / CARD
    notes = read_json(older).get("notes", {}) if older.exists() else {}
  if not isinstance(notes, dict) or not notes.keys() <= {"description", *NOTES}:
    raise DataError(f"{options.notes}: expected an object with description, {', '.join(NOTES)}")
  return notes


def _member(name: str, loaded: "LoadedCheckpoint", parameters: int) -> dict[str, Any]:
  """Describes a member for the card."""
  from alphaecoli.checkpoints.read import hash_checkpoint

  return {
    "name": name,
    "fold": loaded.config.data.fold,
    "step": loaded.step,
    "parameters": parameters,
    "source_sha256": hash_checkpoint(loaded.path),
    "trained_on": loaded.meta.get("trained_on"),
  }


def _training(loaded: "LoadedCheckpoint") -> dict[str, Any]:
  """Describes, by its first member, what a model is and how it was trained.

  Hashes of the data, and the command, are of the run's record where it is there.
  """
  from alphaecoli.checkpoints.packed import without_paths
  from alphaecoli.tracks.track_table import trained_heads

  record = loaded.path.parents[1] / "run.json"
  start = read_json(record)["starts"][0] if record.is_file() else {}
  script, *flags = start.get("command", [""])
  parts = [without_paths(flag.split("=", 1)) for flag in flags]
  command = " ".join([f"python -m alphaecoli.{Path(script).stem}", *map("=".join, parts)])
  return {
    "organisms": [organism.name for organism in loaded.organisms],
    "tracks": list(loaded.table.names),
    "heads": list(trained_heads(loaded.config.loss.weights, loaded.table)),
    "window_bp": loaded.config.data.window_bp,
    "command": re.sub(r" --folds \S+", "", command) if script else None,
    "inputs": start.get("inputs"),
  }


def _figures(source: Path) -> dict[str, Any] | None:
  """Takes the figures over folds from the record of a cross-validation, where there is one."""
  file = (source if source.is_dir() else source.parent) / "crossvalidation.json"
  if not file.is_file():
    return None
  found = read_json(file)
  keys = ("mean", "std", "n_folds")
  metrics = {
    name: {
      of: {key: values[key] for key in keys} if isinstance(values, dict) else values
      for of, values in entry.items()
    }
    for name, entry in found["metrics"].items()
    if not name.startswith("loss/")
  }
  return {"split": found["split"], "folds": found["folds"], "metrics": metrics}


def _write_genomes(out: Path, loaded: "Sequence[LoadedCheckpoint]") -> None:
  """Writes the chromosomes of training that are not in the package, by which parts are known."""
  from alphaecoli.checkpoints.packed import GENOMES
  from alphaecoli.checkpoints.read import open_checkpoint
  from alphaecoli.genomics.sequence import decode
  from alphaecoli.tracks.exposure import embedded_genomes
  from alphaecoli.tracks.organisms import find_store
  from alphaecoli.tracks.splits import hash_genome

  seen = [entry for member in loaded for entry in member.meta.get("trained_on", ())]
  missing = {entry["genome_sha256"] for entry in seen} - embedded_genomes().keys()
  checkpoints, starts = list(loaded) if missing else [], set[str]()
  try:
    for checkpoint in checkpoints:
      for row in range(len(checkpoint.organisms)):
        run = checkpoint.path.parents[1]
        for own in find_store(checkpoint.meta, run, row, checkpoint.config).replicons:
          if (digest := hash_genome(own.sequence)) in missing:
            missing.discard(digest)
            file = out / GENOMES / f"{digest[:16]}.fna.gz"
            file.parent.mkdir(exist_ok=True)
            text = f">{own.contig}\n{decode(own.sequence)}\n"
            file.write_bytes(gzip.compress(text.encode(), mtime=0))
            cli.LOGGER.info("%s: the genome of training %s", file, own.contig)
      start = checkpoint.meta.get("init", {}).get("from")
      if start is not None and start not in starts:
        starts.add(start)
        checkpoints.append(open_checkpoint(start))  # what a run started from was trained, too
  except DataError as error:
    cli.LOGGER.warning("%d genomes of training are not beside the model: %s", len(missing), error)


def _card_of(checkpoint: str) -> dict[str, Any]:
  """Reads the card of a model.

  Raises:
    DataError: it has none.
  """
  from alphaecoli.checkpoints.packed import locate_model

  file = Path(locate_model(checkpoint)) / CARD
  if not file.is_file():
    raise DataError(f"{checkpoint} has no {CARD}; alphaecoli.models export writes one")
  return read_json(file)


def markdown(card: Mapping[str, Any]) -> str:
  """Formats a card."""
  members, notes = card["members"], card["notes"]
  size = f"{members[0]['parameters']:,} parameters each" if members else ""
  genomes = {e["genome_sha256"]: e["contig"] for m in members for e in m["trained_on"] or ()}
  lines = [f"# Model card: {card['name']}", ""]
  lines += [notes["description"], ""] if "description" in notes else []
  lines += [
    f"- **What it is.** {len(members)} models of {size}, kernels stored as {card['precision']}; "
    f"windows of {card['window_bp']:,} bp. Heads: {', '.join(card['heads'])}; expression tracks: "
    f"{', '.join(card['tracks'])}. Written by alphaecoli {card['alphaecoli']}.",
    f"- **Trained on** {', '.join(card['organisms'])}: "
    + "; ".join(f"{contig}, SHA-256 of its bases `{digest}`" for digest, contig in genomes.items())
    + ".",
  ]
  if card["inputs"]:
    files = [f"`{file['name']}` `{file['sha256'][:16]}…`" for file in card["inputs"].values()]
    lines.append(f"- **Data**, with the start of the SHA-256: {', '.join(files)}.")
  if card["command"]:
    lines.append(f"- **Command** that reproduces it: `{card['command']}`")
  lines += ["", "| member | fold | step | SHA-256 of the checkpoint |", "|---|---|---|---|"]
  lines += [
    f"| {m['name']} | {m['fold']} | {m['step']} | `{m['source_sha256'][:16]}…` |" for m in members
  ]
  if card["figures"]:
    lines += ["", *_figure_lines(card["figures"])]
  for key, title in NOTES.items():
    if key in notes:
      lines += ["", f"## {title}", "", *(f"- {sentence}" for sentence in notes[key])]
  return "\n".join(lines) + "\n"


def _figure_lines(figures: Mapping[str, Any]) -> list[str]:
  """Formats the table of figures: the model, its baseline, and the rivals by name."""
  folds = figures["folds"]
  lines = [
    "## Figures",
    "",
    f"Mean ± standard deviation over the {figures['split']} splits of folds "
    f"{', '.join(map(str, folds))}, each measured with the one model that has not seen it, both "
    "strands averaged. [Evaluation](evaluation.md) says what each figure and rival is.",
    "",
    "| figure | over | model | baseline | rivals |",
    "|---|---|---|---|---|",
  ]
  for name, entry in figures["metrics"].items():
    texts = {of: _plus_minus(v, len(folds)) for of, v in entry.items() if of != "over"}
    model, baseline = texts.pop("model"), texts.pop("baseline")
    beside = "; ".join(f"{rival} {text}" for rival, text in sorted(texts.items()))
    lines.append(f"| `{name}` | {entry['over']} | {model} | {baseline} | {beside} |")
  return lines


def _plus_minus(value: Mapping[str, Any], n_folds: int) -> str:
  """Formats mean and deviation, and over how many folds they are if not all; a dash without."""
  if value["mean"] is None:
    return "–"
  deviation = "" if value["std"] is None else f" ± {value['std']:.3f}"
  folds = "" if value["n_folds"] == n_folds else f" ({value['n_folds']} folds)"
  return f"{value['mean']:.3f}{deviation}{folds}".replace("-", "−")


if __name__ == "__main__":
  cli.run(main)
