"""What genome browsers open beside the tracks: IGV, igv.js, JBrowse 2 and UCSC; genes in colour.

All paths are relative to the files, so that a folder can be moved or served.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8

from alphaecoli.files import write_json, write_text
from alphaecoli.genomics.intervals import split_at_origin
from alphaecoli.genomics.sequence import UNKNOWN, decode
from alphaecoli.outputs.bigbed import Feature, write_bigbed
from alphaecoli.outputs.known_genes import mean_levels

FASTA, TWO_BIT, GENES, OPERONS = "genome.fa", "genome.2bit", "genes", "operons"
LINE_BP = 80
FIRST_VIEW_BP = 20_000
# The version that igv.html is tested with, and the hash of its file in npm's package igv, so that a
# browser runs nothing else: openssl dgst -sha384 -binary igv.min.js | openssl base64 -A
IGV_VERSION = "3.8.10"
IGV_JS = f"https://cdn.jsdelivr.net/npm/igv@{IGV_VERSION}/dist/igv.min.js"
IGV_HASH = "sha384-b/GRD1DJ3Dgldpe6xYBLC9PzuduzTcS8Mm+lklLhsxW/fSCZgZnEyZib80jgh1li"
# From low to high expression, by fifths of the genes: viridis without its lightest end.
FIFTHS = ("lowest fifth", "second fifth", "middle fifth", "fourth fifth", "highest fifth")
COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (230, 160, 20))
GREY, OPERON = (128, 128, 128), (120, 120, 160)
TRACK_COLOURS = {
  "gene_expression": (31, 119, 180),
  "gene_density": (112, 128, 144),
  "operon_membership": (214, 95, 14),
}
_TWO_BITS = np.array([2, 1, 3, 0, 0], np.uint8)  # of A C G T N: T C A G are 0 to 3
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<script src="{script}" integrity="{hash}" crossorigin="anonymous"></script>
<script>window.igv || document.write('<script src="igv.min.js"><\\/script>')</script></head>
<body>
<p id="absent" hidden>igv.js could not be loaded: this page needs a network, or the file igv.min.js
of the npm package igv {version} beside it.</p>
<p id="ask" hidden>This page lies on your disk: choose the folder that it is in, and nothing leaves
your computer. <input type="file" id="folder" webkitdirectory multiple></p>
<div id="browser"></div>
<script>
const session = {session};
const keys = ["url", "fastaURL", "indexURL"];
async function show(files) {{
  document.getElementById("absent").hidden = Boolean(window.igv);
  for (const part of [session.reference, ...session.tracks])
    for (const key of keys) if (part[key] && files) part[key] = files[part[key]];
  document.getElementById("ask").hidden = true;
  window.browser = await igv.createBrowser(document.getElementById("browser"), session);
  document.documentElement.dataset.ready = "yes";
}}
if (location.protocol === "file:") {{
  document.getElementById("ask").hidden = false;
  document.getElementById("folder").onchange = (event) =>
    show(Object.fromEntries([...event.target.files].map((file) => [file.name, file])));
}} else show(null);
</script>
</body>
</html>
"""

Row = Mapping[str, Any]


def expression_fifths(rows: Sequence[Row]) -> list[int | None]:
  """Ranks genes by predicted expression, as the column `expression_rank` does.

  Returns:
    For each row of `genes.tsv` its fifth among all, from 0 (lowest); None where nothing is known.
  """
  levels = mean_levels(rows)
  if not np.isfinite(levels).all():
    return [None] * len(rows)
  ranks = np.argsort(np.argsort(levels, kind="stable"), kind="stable")
  return [int(rank) * len(FIFTHS) // len(rows) for rank in ranks]


def colour_of(fifth: int | None) -> tuple[int, int, int]:
  """Returns the colour of a fifth."""
  return GREY if fifth is None else COLOURS[fifth]


def gene_features(rows: Sequence[Row], lengths: Mapping[str, int]) -> list[Feature]:
  """Makes BED features of rows of `genes.tsv`; a gene that passes the origin has two."""
  features = []
  for row, fifth in zip(rows, expression_fifths(rows), strict=True):
    name = row["name"] or row["locus_tag"] or row["id"]
    score = 0 if fifth is None else 200 * (fifth + 1)
    for start, end in split_at_origin([(row["start"] - 1, row["end"])], lengths[row["contig"]]):
      place = row["contig"], start, end
      features.append(Feature(*place, name, score, row["strand"], colour_of(fifth)))
  return features


def write_bed(path: Path, features: Sequence[Feature]) -> None:
  """Writes BED with nine columns, sorted by place."""
  ordered = sorted(features, key=lambda f: (f.contig.encode(), f.start, f.end))
  lines = (f"{f.contig}\t{f.start}\t{f.end}\t{f.rest}\n" for f in ordered)
  write_text(path, "".join(lines))


def write_browser_files(
  folder: Path,
  title: str,
  contigs: Sequence[tuple[str, UInt8[np.ndarray, " _"]]],
  tracks: Sequence[Row],
  largest: Mapping[str, float],
  features: Mapping[str, Sequence[Feature]],
) -> list[dict[str, str]]:
  """Writes the genome, its features and a session for each browser.

  Args:
    folder: folder of the BigWigs.
    title: name of the genome.
    contigs: names and bases, sorted by name (in bytes).
    tracks: rows of the manifest, one a BigWig.
    largest: largest value of each BigWig, by file.
    features: features by the stem of their file.

  Returns:
    Rows of the manifest.

  Raises:
    DataError: a file can not be written.
  """
  _write_fasta(folder / FASTA, contigs)
  write_2bit(folder / TWO_BIT, contigs)
  lengths = [(name, len(codes)) for name, codes in contigs]
  for name, members in features.items():
    write_bigbed(folder / f"{name}.bb", lengths, members)
  shown = [_shown(track, largest[track["file"]]) for track in tracks]
  first, length = max(lengths, key=lambda contig: contig[1])
  place = first, min(length, FIRST_VIEW_BP)
  session = _igv_session(title, place, shown, list(features))
  write_text(folder / "igv.xml", _igv_xml(place, shown, list(features)))
  text = json.dumps(session, indent=1).replace("<", "\\u003c")
  words = title.replace("&", "&amp;").replace("<", "&lt;")
  source = {"script": IGV_JS, "hash": IGV_HASH, "version": IGV_VERSION}
  write_text(folder / "igv.html", PAGE.format(title=words, session=text, **source))
  write_json(folder / "config.json", _jbrowse(title, place, length, shown, list(features)))
  write_text(folder / "hub.txt", "\n".join(_hub(title, place, shown, list(features))))
  kinds = {FASTA: "fasta", f"{FASTA}.fai": "fai", TWO_BIT: "2bit"}
  kinds |= {f"{name}.bb": "bigbed" for name in features}
  kinds |= {"igv.xml": "igv", "igv.html": "html", "config.json": "jbrowse", "hub.txt": "ucsc"}
  return [{"file": file, "format": kind} for file, kind in kinds.items()]


def _shown(track: Row, largest: float) -> dict[str, Any]:
  """Decides how a track is drawn; scales are the same for all tracks of probabilities."""
  head = track["head"].removesuffix("_spread")
  name = track["head"].replace("_", " ") + (
    f", {track['track']}" if head == "gene_expression" else ""
  )
  top = 1.0 if track["head"] == "operon_membership" else max(math.ceil(largest * 10) / 10, 0.1)
  low = -top if track["units"].startswith("z-score") and track["head"] == head else 0.0
  colour = GREY if track["head"] != head else TRACK_COLOURS[head]
  row = {"file": track["file"], "name": name, "low": low, "high": top, "colour": colour}
  return row | {"units": track["units"], "shared": track["head"]}


def _write_fasta(path: Path, contigs: Sequence[tuple[str, np.ndarray]]) -> None:
  """Writes FASTA and its index (samtools faidx)."""
  index, at = [], 0
  parts: list[str] = []
  for name, codes in contigs:
    text = decode(codes)
    lines = [text[first : first + LINE_BP] for first in range(0, len(text), LINE_BP)]
    at += len(name.encode()) + 2
    index.append(f"{name}\t{len(text)}\t{at}\t{LINE_BP}\t{LINE_BP + 1}\n")
    at += len(text) + len(lines)
    parts.append("\n".join([f">{name}", *lines, ""]))
  write_text(path, "".join(parts))
  write_text(path.with_name(path.name + ".fai"), "".join(index))


def write_2bit(path: Path, contigs: Sequence[tuple[str, UInt8[np.ndarray, " _"]]]) -> None:
  """Writes 2bit, which UCSC's browser reads: four bases a byte, and runs of N.

  Source: https://genome.ucsc.edu/FAQ/FAQformat.html#format7.
  """
  names = [name.encode() for name, _ in contigs]
  at, index, records = 16 + sum(5 + len(name) for name in names), [], []
  for name, (_, codes) in zip(names, contigs, strict=True):
    unknown = np.flatnonzero(np.diff(codes == UNKNOWN, prepend=False, append=False))
    starts, sizes = unknown[::2], unknown[1::2] - unknown[::2]
    padded = np.pad(_TWO_BITS[codes], (0, -len(codes) % 4)).reshape(-1, 4)
    packed = padded @ np.array([64, 16, 4, 1], np.uint8)
    counts = np.array([len(codes), len(starts)]), starts, sizes, np.zeros(2, np.int64)
    records.append(
      np.concatenate(counts).astype("<u4").tobytes() + packed.astype(np.uint8).tobytes()
    )
    index.append(bytes([len(name)]) + name + struct.pack("<I", at))
    at += len(records[-1])
  head = struct.pack("<IIII", 0x1A412743, 0, len(names), 0)
  path.write_bytes(head + b"".join(index) + b"".join(records))


def _css(colour: tuple[int, int, int]) -> str:
  """Formats a colour for igv.js and JBrowse."""
  return "rgb({},{},{})".format(*colour)


def _file_of(name: str) -> str:
  """Names the file in which IGV reads features: as text, so that genes are found by name."""
  return f"{name}.bed" if name == GENES else f"{name}.bb"


def _igv_session(
  title: str, place: tuple[str, int], tracks: Sequence[Row], features: Sequence[str]
) -> dict[str, Any]:
  """Makes a session of igv.js."""
  reference = {"id": title, "name": title, "fastaURL": FASTA, "indexURL": f"{FASTA}.fai"}
  rows: list[dict[str, Any]] = [
    {"type": "annotation", "name": name, "url": _file_of(name), "height": 70}
    | {"format": "bed" if name == GENES else "bigbed"}
    | {"displayMode": "EXPANDED", "searchable": True, "order": number}
    for number, name in enumerate(features)
  ]
  rows += [
    {"type": "wig", "format": "bigwig", "name": t["name"], "url": t["file"], "height": 80}
    | {"min": t["low"], "max": t["high"], "color": _css(t["colour"]), "order": 10 + number}
    | {"overflowColor": _css(t["colour"])}  # of values below 0: its default is a line in pink
    for number, t in enumerate(tracks)
  ]
  return {
    "reference": reference,
    "locus": f"{place[0]}:1-{place[1]}",
    "tracks": rows,
    "loadDefaultGenomes": False,
  }


def _igv_xml(place: tuple[str, int], tracks: Sequence[Row], features: Sequence[str]) -> str:
  """Makes a session of IGV desktop."""
  locus = f"{place[0]}:1-{place[1]}"
  root = ElementTree.Element("Session", genome=FASTA, locus=locus, version="8")
  resources = ElementTree.SubElement(root, "Resources")
  panel = ElementTree.SubElement(root, "Panel", name="DataPanel", height="700", width="1200")
  for name in features:
    ElementTree.SubElement(resources, "Resource", path=_file_of(name))
    look = {"displayMode": "EXPANDED", "height": "60", "id": _file_of(name), "name": name}
    ElementTree.SubElement(panel, "Track", look)
  for t in tracks:
    ElementTree.SubElement(resources, "Resource", path=t["file"], type="bw")
    look = {"id": t["file"], "name": t["name"], "height": "80", "renderer": "BAR_CHART"}
    look |= {"autoScale": "false", "color": ",".join(map(str, t["colour"]))}
    track = ElementTree.SubElement(panel, "Track", look)
    bounds = {"minimum": str(t["low"]), "baseline": "0.0", "maximum": str(t["high"])}
    ElementTree.SubElement(track, "DataRange", bounds, type="LINEAR")
  ElementTree.indent(root)
  return ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n"


def _uri(file: str) -> dict[str, str]:
  """Makes a location of JBrowse, relative to its configuration."""
  return {"uri": file, "locationType": "UriLocation"}


def _jbrowse(
  title: str, place: tuple[str, int], length: int, tracks: Sequence[Row], features: Sequence[str]
) -> dict[str, Any]:
  """Makes a configuration of JBrowse 2 with a session that shows every track."""
  fasta = {
    "type": "IndexedFastaAdapter",
    "fastaLocation": _uri(FASTA),
    "faiLocation": _uri(f"{FASTA}.fai"),
  }
  sequence = {"type": "ReferenceSequenceTrack", "trackId": "sequence", "adapter": fasta}
  rows: list[dict[str, Any]] = []
  for name in features:
    display: dict[str, Any] = {
      "type": "LinearBasicDisplay",
      "displayId": f"{name}-display",
      "height": 90,
    }
    colour = "jexl:'rgb('+get(feature,'itemRgb')+')'"
    display |= {"height": 90, "renderer": {"type": "SvgFeatureRenderer", "color1": colour}}
    adapter: dict[str, Any] = {"type": "BigBedAdapter", "bigBedLocation": _uri(f"{name}.bb")}
    rows.append(
      {"type": "FeatureTrack", "trackId": name, "name": name, "adapter": adapter}
      | {"displays": [display]}
    )
  for t in tracks:
    adapter = {"type": "BigWigAdapter", "bigWigLocation": _uri(t["file"])}
    display = {"type": "LinearWiggleDisplay", "displayId": f"{t['file']}-display", "height": 80}
    display |= {"minScore": t["low"], "maxScore": t["high"], "defaultRendering": "xyplot"}
    colour = _css(t["colour"])
    display |= {"posColor": colour, "summaryScoreMode": "avg"}  # version 4; the renderer: before
    look = {"color": colour, "posColor": colour, "summaryScoreMode": "avg"}
    display["renderers"] = {"XYPlotRenderer": {"type": "XYPlotRenderer", **look}}
    rows.append(
      {"type": "QuantitativeTrack", "trackId": t["file"], "name": t["name"], "adapter": adapter}
      | {"displays": [display]}
    )
  view: dict[str, Any] = {"id": "view", "type": "LinearGenomeView", "bpPerPx": place[1] / 1200}
  view |= {"offsetPx": 0, "trackLabels": "offset", "tracks": [_open(row) for row in rows]}
  view["displayedRegions"] = [
    {"refName": place[0], "start": 0, "end": length, "assemblyName": title}
  ]
  return {
    "assemblies": [{"name": title, "sequence": sequence}],
    "tracks": [row | {"assemblyNames": [title]} for row in rows],
    "defaultSession": {"name": title, "views": [view]},
  }


def _open(row: Row) -> dict[str, Any]:
  """Makes the part of a session of JBrowse that shows a track."""
  display = row["displays"][0]
  shown = {"type": display["type"], "configuration": display["displayId"]}
  return {"type": row["type"], "configuration": row["trackId"], "displays": [shown]}


def _hub(
  title: str, place: tuple[str, int], tracks: Sequence[Row], features: Sequence[str]
) -> Iterator[str]:
  """Makes the lines of an assembly hub of UCSC in one file."""
  word = "g_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in title)
  yield f"hub {word}\nshortLabel {title[:17]}\nlongLabel {title[:60]}: predictions"
  yield "useOneFile on\nemail not-given\n"
  yield f"genome {word}\ntwoBitPath {TWO_BIT}\norganism {title}\nscientificName {title}"
  yield f"description {title}\ndefaultPos {place[0]}:1-{place[1]}\n"
  for name in features:
    yield f"track {name}\nbigDataUrl {name}.bb\nshortLabel {name}\nlongLabel Predicted: {name}"
    yield "type bigBed 9\nitemRgb on\nvisibility pack\n"
  for number, t in enumerate(tracks):
    low, high = math.floor(t["low"]), math.ceil(t["high"])  # igv.js reads whole numbers alone
    short = t["name"].removeprefix("gene ").removeprefix("operon ")[:17].strip(" ,")
    yield f"track track{number}\nbigDataUrl {t['file']}\nshortLabel {short}"
    yield f"longLabel {t['name'][:50]}, {t['units']}\ntype bigWig {low} {high}"
    yield f"color {','.join(map(str, t['colour']))}\nviewLimits {low}:{high}"
    yield "autoScale off\nvisibility full\nmaxHeightPixels 100:60:20\n"
