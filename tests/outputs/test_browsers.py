"""What browsers open, by the documented rules of each format and by readers of other libraries."""

import json
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pybigtools
import pyBigWig
import pytest

from alphaecoli.genomics.sequence import encode, read_fasta
from alphaecoli.outputs.bigbed import Feature, write_bigbed
from alphaecoli.outputs.browsers import (
  COLOURS,
  GREY,
  IGV_VERSION,
  expression_fifths,
  gene_features,
  write_bed,
  write_browser_files,
)

ROOT = Path(__file__).parents[2]
CONTIGS = [("chr", encode("NNACGT" + "GATTACA" * 30 + "NN")), ("p<1>", encode("ACGTN"))]
LENGTHS = {name: len(codes) for name, codes in CONTIGS}
TRACKS = [
  {"file": "a.bw", "head": "gene_expression", "track": "heat", "units": "ln(1 + TPM)"},
  {"file": "s.bw", "head": "gene_expression_spread", "track": "heat", "units": "ln(1 + TPM)"},
  {"file": "o.bw", "head": "operon_membership", "track": "operon_membership", "units": "p"},
]
LARGEST = {"a.bw": 7.21, "s.bw": 0.0, "o.bw": 0.93}


def gene(start, end, level, contig="chr", **names):
  names = {"id": "i", "locus_tag": "", "name": "", **names}
  place = {"contig": contig, "start": start, "end": end, "strand": "-"}
  return {**names, **place, "log_tpm:heat": level, "log_tpm:cold": level}


ROWS = [gene(1 + 10 * n, 8 + 10 * n, level) for n, level in enumerate([3, 1, 5, 2, 4])]


@pytest.fixture
def folder(tmp_path):
  features = {"genes": gene_features(ROWS, LENGTHS), "operons": []}
  write_bed(tmp_path / "genes.bed", features["genes"])
  rows = write_browser_files(tmp_path, "strain </script> A&B", CONTIGS, TRACKS, LARGEST, features)
  assert {row["file"] for row in rows} | {"genes.bed"} == {p.name for p in tmp_path.iterdir()}
  return tmp_path


def test_genes_are_coloured_by_their_fifth_among_all():
  assert expression_fifths(ROWS) == [2, 0, 4, 1, 3]
  features = gene_features(ROWS, LENGTHS)
  assert [f.colour for f in features] == [COLOURS[n] for n in (2, 0, 4, 1, 3)]
  assert expression_fifths([gene(1, 3, np.nan)]) == [None]
  assert gene_features([gene(1, 3, np.nan)], LENGTHS)[0].colour == GREY
  names = {"id": "i", "contig": "chr"}
  assert expression_fifths([names, names]) == [None, None] and expression_fifths([]) == []


def test_the_better_level_decides_the_colour_where_there_is_one():
  better = [3, 5, 1, 4, 2]  # ROWS say otherwise
  rows = [
    {**row, "log_tpm_annotated:heat": level, "log_tpm_annotated:cold": level}
    for row, level in zip(ROWS, better, strict=True)
  ]
  assert expression_fifths(rows) == [2, 4, 0, 3, 1]


def test_a_gene_over_the_origin_has_two_lines_of_one_name(tmp_path):
  length = LENGTHS["chr"]
  write_bed(tmp_path / "g.bed", gene_features([gene(length - 2, length + 4, 1, name="x")], LENGTHS))
  lines = [line.split("\t") for line in (tmp_path / "g.bed").read_text().splitlines()]
  assert [line[:4] for line in lines] == [
    ["chr", "0", "4", "x"],
    ["chr", str(length - 3), str(length), "x"],
  ]
  assert all(len(line) == 9 and line[6:8] == line[1:3] for line in lines)


def test_bigbed_is_read_by_two_libraries(tmp_path):
  contigs = [("a", 50_000), ("b", 10), ("c", 500_000)]
  features = [Feature("c", n * 100, n * 100 + 60, f"g{n}", 5, "+", (1, 2, 3)) for n in range(3000)]
  features += [
    Feature("c", 5, 400_000, "long", 0, "-", GREY),
    Feature("a", 1, 9, "x", 1, ".", GREY),
  ]
  write_bigbed(tmp_path / "f.bb", contigs, features)
  with pyBigWig.open(str(tmp_path / "f.bb")) as file:
    assert file.isBigBed() and file.chroms() == dict(contigs)
    assert b"itemRgb" in file.SQL()
    assert len(file.entries("c", 0, 500_000)) == 3001
    # A long feature of the first block, asked for far behind it.
    assert file.entries("c", 399_999, 400_000)[0][2].startswith("long\t")
    assert not file.entries("b", 0, 10)
  other = pybigtools.open(str(tmp_path / "f.bb"))
  assert list(other.records("a")) == [(1, 9, "x", "1", ".", "1", "9", "128,128,128")]
  assert "long" in {record[2] for record in other.records("c", 399_000, 400_000)}


def test_fasta_index_points_at_every_line(folder):
  text = (folder / "genome.fa").read_bytes()
  rows = [line.split("\t") for line in (folder / "genome.fa.fai").read_text().splitlines()]
  found = {contig.name: contig.codes for contig in read_fasta(folder / "genome.fa")}
  for (name, codes), row in zip(CONTIGS, rows, strict=True):
    assert np.array_equal(found[name], codes)
    length, at, bases, width = map(int, row[1:])
    assert (row[0], length) == (name, len(codes))
    for base in (0, len(codes) // 2, len(codes) - 1):
      letter = text[at + base // bases * width + base % bases :][:1]
      assert encode(letter)[0] == codes[base]


def test_2bit_gives_back_every_base(folder):
  data = (folder / "genome.2bit").read_bytes()
  signature, version, count, reserved = struct.unpack_from("<4I", data)
  assert (signature, version, count, reserved) == (0x1A412743, 0, len(CONTIGS), 0)
  at = 16
  for name, codes in CONTIGS:
    size = data[at]
    assert data[at + 1 : at + 1 + size].decode() == name
    (place,) = struct.unpack_from("<I", data, at + 1 + size)
    at += 5 + size
    length, blocks = struct.unpack_from("<2I", data, place)
    starts = struct.unpack_from(f"<{blocks}I", data, place + 8)
    sizes = struct.unpack_from(f"<{blocks}I", data, place + 8 + 4 * blocks)
    assert struct.unpack_from("<2I", data, place + 8 + 8 * blocks) == (0, 0)
    packed = data[place + 16 + 8 * blocks :]
    letters = ["TCAG"[packed[n // 4] >> (6 - 2 * (n % 4)) & 3] for n in range(length)]
    for start, width in zip(starts, sizes, strict=True):
      letters[start : start + width] = "N" * width
    assert np.array_equal(encode("".join(letters)), codes)


def test_sessions_name_files_of_the_folder_by_relative_paths(folder):
  there = {path.name for path in folder.iterdir()} | {track["file"] for track in TRACKS}
  root = ElementTree.parse(folder / "igv.xml").getroot()
  named = {r.get("path") for r in root.iter("Resource")}
  assert named | {root.get("genome")} <= there
  assert {track.get("id") for track in root.iter("Track")} == named
  page = (folder / "igv.html").read_text()
  session = json.loads(page.split("const session = ")[1].split(";\nconst keys")[0])
  assert page.count("</script>") == 3  # the title's became text
  assert f"npm pack igv@{IGV_VERSION} " in (ROOT / "docs" / "prediction.md").read_text()
  assert {track["url"] for track in session["tracks"]} == named
  assert {session["reference"][key] for key in ("fastaURL", "indexURL")} <= there
  config = json.loads((folder / "config.json").read_text())
  text = json.dumps(config)
  assert {part.split('"')[0] for part in text.split('"uri": "')[1:]} <= there
  (view,) = config["defaultSession"]["views"]
  for shown, track in zip(view["tracks"], config["tracks"], strict=True):
    assert shown["configuration"] == track["trackId"]
    assert shown["displays"][0]["configuration"] == track["displays"][0]["displayId"]
    assert track["assemblyNames"] == [config["assemblies"][0]["name"]]


def test_scales_are_fixed_and_those_of_probabilities_are_0_to_1(folder):
  config = json.loads((folder / "config.json").read_text())
  scales = {
    t["trackId"]: (t["displays"][0]["minScore"], t["displays"][0]["maxScore"])
    for t in config["tracks"]
    if t["type"] == "QuantitativeTrack"
  }
  assert scales == {"a.bw": (0, 7.3), "s.bw": (0, 0.1), "o.bw": (0, 1)}


def test_hub_has_what_ucsc_demands_of_one_file(folder):
  stanzas = [
    dict(line.split(" ", 1) for line in stanza.splitlines())
    for stanza in (folder / "hub.txt").read_text().strip().split("\n\n")
  ]
  hub, genome, *tracks = stanzas
  assert {"hub", "shortLabel", "longLabel", "email"} <= hub.keys() and hub["useOneFile"] == "on"
  assert genome["twoBitPath"] == "genome.2bit" and genome["defaultPos"] == f"chr:1-{LENGTHS['chr']}"
  assert [t["bigDataUrl"] for t in tracks] == ["genes.bb", "operons.bb", "a.bw", "s.bw", "o.bw"]
  assert len({t["track"] for t in tracks}) == len(tracks)
  assert [t["viewLimits"] for t in tracks[2:]] == ["0:8", "0:1", "0:1"]  # of 7.21, 0, a probability
  assert tracks[3]["shortLabel"] == "expression spread"
  assert all(len(t["shortLabel"]) <= 17 and len(t["longLabel"]) <= 80 for t in tracks)
