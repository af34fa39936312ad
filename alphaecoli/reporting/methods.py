"""A methods paragraph about a run, ready to paste: all of it from the run's own files."""

from collections.abc import Iterator, Mapping
from typing import Any

from alphaecoli.checkpoints.read import hash_checkpoint
from alphaecoli.config import with_new_keys
from alphaecoli.evaluation.rivals import DESCRIPTIONS
from alphaecoli.files import hash_file, read_json
from alphaecoli.regulondb.dump import builtin_dump, builtin_genome
from alphaecoli.reporting.run import Run
from alphaecoli.reporting.sections import HEADLINES, baseline_words, decimals, metric_words
from alphaecoli.schema import HEADS
from alphaecoli.tracks.splits import SPLITS, TRAIN, total_bp

METHODS_FILE = "methods.txt"  # beside the page
FIGURES = (
  *HEADLINES,
  "gene_calls/stop_sensitivity",
  "gene_calls/stop_precision",
  "operon_pairs/annotated_auroc",
)
_DIGITS = 3
_ALPHAGENOME = "Avsec et al. 2026, Nature 649:1206–1218, doi:10.1038/s41586-025-10014-0"
_REGULONDB = "Salgado et al. 2024, Nucleic Acids Res. 52:D255–D264, doi:10.1093/nar/gkad1072"
_PRODIGAL = (
  "Prodigal (Hyatt et al. 2010, BMC Bioinformatics 11:119, doi:10.1186/1471-2105-11-119) was run "
  "through pyrodigal (Larralde 2022, J. Open Source Softw. 7:4296, doi:10.21105/joss.04296)."
)
_EMBEDDED = (  # datasets/ecoli_k12_mg1655/README.md
  "genes and transcription units of EcoCyc 29.1 (Keseler et al. 2021, Front. Microbiol. 12:711077, "
  "doi:10.3389/fmicb.2021.711077) as published in vEcoli (Macklin et al. 2020, Science "
  "369:eaav3751, doi:10.1126/science.aav3751), RNA-seq of 20 samples of PRECISE-278 (Sastry et al. "
  "2019, Nat. Commun. 10:5536, doi:10.1038/s41467-019-13483-w) and of 3 conditions of vEcoli, and "
  f"the sequence NC_000913.3 of NCBI RefSeq, in the layout of RegulonDB ({_REGULONDB})"
)


def paragraph(run: Run) -> str:
  """Writes the paragraph, plain text on one line."""
  config = with_new_keys(run.config)
  sentences = [*_model(run, config), *_data(run), *_splits(run, config)]
  return " ".join([*sentences, *_training(run, config), *_figures(run, config)])


def _model(run: Run, config: Mapping[str, Any]) -> Iterator[str]:
  """Names the software and the model."""
  versions = dict(run.starts[-1]["versions"])
  own = versions.pop("alphaecoli", "of a version that is not recorded")
  others = ", ".join(f"{name} {number}" for name, number in versions.items())
  commit = run.starts[-1]["git_commit"]
  code = f", commit {commit}" if commit else ""
  code += " with local changes" if commit and run.starts[-1]["git_changes"] else ""
  model, window = config["model"], config["data"]["window_bp"]
  yield (
    f"Bacterial gene regulation was predicted from sequence alone with alphaecoli {own}{code} "
    f"({others})."
  )
  yield (
    f"The network has the architecture of AlphaGenome ({_ALPHAGENOME}), with {model['channels']} "
    f"channels at 1 bp, {model['n_layers']} transformer layers of {model['n_heads']} heads, and "
    f"windows of {window:,} bp."
  )


def _data(run: Run) -> Iterator[str]:
  """Names the data, their sources and their hashes."""
  start = run.starts[-1]
  names = [organism["name"] for organism in start.get("organisms", ())] or [run.genome.organism]
  files = {file["sha256"]: file["name"] for file in _files(start["inputs"])}
  hashes = "; ".join(f"{name} {digest}" for digest, name in files.items())
  source = ""
  embedded = [*builtin_dump().rglob("*.bson.gz"), builtin_genome()]
  if {hash_file(path) for path in embedded} <= files.keys():
    source = f" Those of alphaecoli's embedded data set of Escherichia coli K-12 hold {_EMBEDDED}."
  elif any("Datamart" in name for name in files.values()):
    source = f" The collections are in the format of RegulonDB ({_REGULONDB})."
  yield (
    f"It was trained on {_listed(names)}, from these files, with their SHA-256: {hashes}.{source}"
  )
  table = run.genome.table
  if table.has_expression:
    tracks = "; ".join(f"{t.name}, the mean of {len(t.datasets)}" for t in table.expression)
    yield f"Expression is ln(1 + TPM), by track and number of RNA-seq data sets: {tracks}."


def _files(inputs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
  """Yields the input files of the only organism, or of all."""
  for value in inputs.values():
    if "sha256" in value:
      yield value
    else:
      yield from _files(value)


def _splits(run: Run, config: Mapping[str, Any]) -> Iterator[str]:
  """Says which bases were held out."""
  data, sizes, contigs = config["data"], [], run.genome.replicons
  for name in SPLITS:
    bases = sum(total_bp(contig.regions(name)) for contig in contigs)
    genes = sum(int((contig.genes.split == name).sum()) for contig in contigs)
    sizes.append(f"{name} {bases:,} bases and {genes:,} genes")
  cut = [c.contig for c in contigs if total_bp(c.regions(TRAIN)) < c.length_bp]
  what = "The chromosome was"
  if len(contigs) > 1:
    what = f"Of {len(contigs)} contigs of {run.genome.organism}, {_listed(cut)} were each"
  moved = data["block_offset"] if data["circular"] else 0
  first = f", the first of them {moved:g} blocks after the first base," if moved else ","
  yield (
    f"{what} cut into {data['n_blocks']} blocks of equal length{first} dealt in turn to "
    f"{data['n_folds']} folds; fold {data['fold'] % data['n_folds']} served for validation, fold "
    f"{(data['fold'] + 1) % data['n_folds']} for testing, the others for training "
    f"({'; '.join(sizes)}), and no window crossed from one split into another."
  )


def _training(run: Run, config: Mapping[str, Any]) -> Iterator[str]:
  """Says how the model was trained, and which checkpoint is meant."""
  train, optimiser, data = config["train"], config["optimizer"], config["data"]
  weights, table = config["loss"]["weights"], run.genome.table
  heads = [
    f"{HEADS[head].title} (weight {weight:g})"
    for head, weight in weights.items()
    if weight and table.has_targets(head)
  ]
  origin = ", from the weights of another checkpoint" if config["init"]["checkpoint"] else ""
  yield (
    f"Training{origin} took {run.step:,} steps of {train['batch_windows']} windows each, "
    f"reverse-complemented with probability {data['reverse_complement']:g}, in "
    f"{config['model']['compute_dtype']} on {run.starts[-1]['devices']}, with the optimiser "
    f"{optimiser['name']} (peak learning rate {optimiser['learning_rate']:g} after "
    f"{optimiser['warmup_steps']:,} steps, weight decay {optimiser['weight_decay']:g}, gradients "
    f"clipped at norm {optimiser['clip_norm']:g}) and seed {train['seed']}, on the sum of the "
    f"losses of these outputs: {_listed(heads)}."
  )
  if train["ema_decay"]:
    yield f"Parameters were averaged exponentially with decay {train['ema_decay']:g}."
  if run.best is None:
    return
  step = run.evaluation.value["step"] if run.evaluation else run.best.step
  saved = next((s for s in run.saved if s.step == step), None)
  chosen = (
    ", the best on validation" if step == run.best.step and run.best.score is not None else ""
  )
  digest = f" (SHA-256 {hash_checkpoint(saved.path)})" if saved else ""
  yield f"The checkpoint of step {step:,}{chosen}{digest} was used."


def _figures(run: Run, config: Mapping[str, Any]) -> Iterator[str]:
  """Gives figures on held-out chromosome, over all folds where the run is one of them."""
  over = _crossvalidation(run, config)
  if over is not None:
    n_done, baselines = len(over["folds"]), over["baselines"]
    where = (
      f"over the {over['split']} splits of {n_done} of {over['n_folds']} folds, each measured with "
      "a model that had not been trained on it (mean ± standard deviation)"
    )
    found = {
      name: {of: _moments(v) for of, v in entry.items() if isinstance(v, Mapping)}
      for name, entry in over["metrics"].items()
    }
  elif run.evaluation is not None:
    value = run.evaluation.value
    baselines = value["baselines"]
    where = f"on the {value['split']} split ({value['n_bases']:,} bases)"
    found = {
      name: {of: decimals(entry[of], _DIGITS) for of in ("model", "baseline")}
      for name, entry in value["metrics"].items()
    }
    for rival, entry in value.get("rivals", {}).items():
      for name, figure in entry.get("metrics", {}).items():
        found.get(name, {})[rival] = decimals(figure["value"], _DIGITS)
  else:
    yield f"The {run.split} split has not been measured yet."
    return
  parts: list[str] = []
  used: dict[str, None] = {}
  for name in (n for n in FIGURES if n in found):
    beside = [
      f"{baseline_words(name, baselines) if of == 'baseline' else of} {text}"
      for of, text in found[name].items()
      if of != "model" and text != "–"
    ]
    used |= dict.fromkeys(of for of in found[name] if of in DESCRIPTIONS)
    others = f" ({', '.join(beside)})" if beside else ""
    parts.append(f"{metric_words(name)} {found[name]['model']}{others}")
  if parts:
    yield f"Figures {where}, beside simple rules in brackets: {'; '.join(parts)}."
  if used:
    yield "Rules: " + ", ".join(f"{rival} ({DESCRIPTIONS[rival]})" for rival in used) + "."
  if any(rival.startswith("prodigal") for rival in used):
    yield _PRODIGAL


def _crossvalidation(run: Run, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
  """Reads the cross-validation that the run is a fold of, if it is one and was gathered."""
  folder, data = run.workdir.resolve(), config["data"]
  file = folder.parent / "crossvalidation.json"
  if folder.name != f"fold_{data['fold']}" or not file.is_file():
    return None
  found = read_json(file)
  ours = found["split"] == run.split and data["fold"] in found["folds"]
  return found if ours and found["n_folds"] == data["n_folds"] else None


def _moments(value: Mapping[str, Any]) -> str:
  """Formats mean and standard deviation; a dash where undefined."""
  mean, std = value["mean"], value["std"]
  spread = "" if mean is None or std is None else f" ± {decimals(std, _DIGITS)}"
  return decimals(mean, _DIGITS) + spread


def _listed(words: list[str]) -> str:
  """Joins words with commas and "and"."""
  return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
