"""Variant scores against an independent comparison of the two whole sequences."""

import gzip

import numpy as np
import pandas as pd
import pytest

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.read import read_variants
from alphaecoli.genomics.sequence import Contig, decode, read_fasta
from alphaecoli.genomics.vcf import Variant, as_variants, read_vcf
from alphaecoli.inference.arguments import AnnotatedGenome
from alphaecoli.variants.edits import View, grid_offsets, kind_of, random_variant, trimmed
from alphaecoli.variants.scoring import ContigFeatures, distance_bp
from tests.inference.standin import TABLE, WINDOW_BP, StandIn, predictor

LENGTH = 9000
CODES = np.random.default_rng(5).integers(0, 4, LENGTH).astype(np.uint8)
CASES = {  # position (1-based), bases of the reference that go, what comes instead
  "substitution": (4000, 1, None),
  "several": (4001, 3, None),
  "insertion": (4100, 1, "ACGTTG"),
  "deletion": (5000, 9, ""),
  "both": (3777, 4, "GG"),
  "first-base": (1, 1, None),
  "last-base": (LENGTH, 1, None),
  "insertion-near-end": (LENGTH - 20, 1, "TTT"),
  "deletion-near-start": (30, 40, "A"),
}


def make(codes, position, removed, inserted, name="c"):
  """A variant as VCF writes it: an insertion or deletion starts with the base before it."""
  ref = decode(codes.take(np.arange(removed) + position - 1, mode="wrap"))
  if inserted is None:
    alt = "".join("ACGT"[("ACGT".index(base) + 1) % 4] for base in ref)
  elif removed == 1 and len(inserted) > 1:
    alt = ref + inserted
  else:
    alt = ref[0] + inserted
  return Variant(name, position, ref, alt, "v")


def compare(model, codes, circular, variant, window, both=False):
  """The change of every channel at each base of the window, in reference coordinates.

  Each sequence is predicted as a whole, in the window given. Labels say which base of the reference
  each base of the alternative is; None for a new one.
  """
  first, length = window[0], len(codes)
  edit = trimmed(variant)
  turned = np.roll(codes, -edit.start) if circular else codes  # so that no edit passes the end
  begin = 0 if circular else edit.start
  labels = [*range(length)]
  common = min(edit.removed_bp, len(edit.inserted))
  labels[begin : begin + edit.removed_bp] = [
    *range(begin, begin + common),
    *[None] * (len(edit.inserted) - common),
  ]
  changed = np.concatenate([turned[:begin], edit.inserted, turned[begin + edit.removed_bp :]])
  start = first - edit.start if circular else first
  span = (start, start + WINDOW_BP)
  tables = []
  for sequence in (turned, changed.astype(np.uint8)):
    result = model.predict(
      sequence, span, circular=circular, one_window=True, reverse_complement=both
    )
    density = np.repeat(result.gene_density, 128, axis=0)
    tables.append(np.hstack([result.gene_expression, density, result.operon_membership]))
  reference, alternative = tables
  low, high = (0, WINDOW_BP)
  if circular and length < WINDOW_BP:
    middle = (variant.start + variant.start + len(variant.ref)) // 2 - first
    low = max(middle - length // 2, 0)
    high = low + length
  moved = {}
  previous = None
  for row in range(WINDOW_BP):
    at = start + row
    at = at % len(changed) if circular else at
    label = labels[at] if 0 <= at < len(changed) else -1
    if label is None:
      moved[previous].append(alternative[row])
    elif label >= 0 or (circular and label == -1):
      turn = (start + row - at) // len(changed) if circular else 0
      previous = (label, turn)
      moved[previous] = [alternative[row]]
  change = np.full_like(reference, np.nan)
  for row in range(low, high):
    at = start + row
    if circular:
      key = (at % length, at // length)
    elif 0 <= at < length:
      key = (at, 0)
    else:
      continue
    if key in moved:
      change[row] = np.mean(moved[key], axis=0) - reference[row]
  return reference, change


def annotated(codes, circular, genes=()):
  placed = [Gene(n, n, n, a, b, s, "gene", contig="c") for n, a, b, s in genes]
  return AnnotatedGenome([Contig("c", codes, circular=circular)], {"c": ContigFeatures(placed)})


@pytest.mark.parametrize("circular", [False, True], ids=["linear", "circular"])
@pytest.mark.parametrize("case", CASES)
def test_score_is_the_difference_of_the_two_full_predictions(case, circular):
  check(CODES, circular, make(CODES, *CASES[case]))


@pytest.mark.parametrize("case", [(700, 1, None), (300, 1, "ACG"), (690, 7, ""), (1, 3, "")])
def test_score_on_a_ring_shorter_than_the_window(case):
  check(CODES[:700], True, make(CODES[:700], *case))


def test_deletion_across_the_origin():
  variant = make(CODES, LENGTH - 2, 8, "")
  assert variant.ref == decode(np.concatenate([CODES[-3:], CODES[:5]]))
  check(CODES, True, variant)


def check(codes, circular, variant):
  model = predictor(batch_windows=2)
  gene = (variant.start // 2, variant.start // 2 + 40, 1)
  near = (max(variant.start - 30, 0), min(variant.start + 60, len(codes)), -1)
  known = annotated(codes, circular, [("far", *gene), ("near", *near)])
  (score,) = model.score_variants([variant], known).scores
  assert score.reason == ""
  reference, change = compare(predictor(), codes, circular, variant, score.window)
  assert not np.isnan(change).all() and np.nanmax(np.abs(change)) > 1e-3
  close = {"rtol": 1e-4, "atol": 1e-5}
  first = score.window[0]
  ref_rows = np.arange(len(variant.ref)) + variant.start - first
  np.testing.assert_allclose(
    score.changes["at_variant"], np.nanmean(change[ref_rows], axis=0), **close
  )
  np.testing.assert_allclose(score.changes["mean_abs"], np.nanmean(np.abs(change), axis=0), **close)
  np.testing.assert_allclose(score.changes["max_abs"], np.nanmax(np.abs(change), axis=0), **close)
  effect = next(g for g in score.genes if g.gene.id == "near")
  rows = [
    row
    for row in range(WINDOW_BP)
    if not np.isnan(change[row]).any()
    and near[0] <= ((first + row) % len(codes) if circular else first + row) < near[1]
  ]
  np.testing.assert_allclose(effect.change, change[rows].mean(axis=0), **close)
  np.testing.assert_allclose(effect.reference, reference[rows].mean(axis=0), **close)
  assert effect.share == pytest.approx(len(rows) / (near[1] - near[0]))
  assert effect.affected and effect.distance_bp == 0 and score.gene is not None


def test_neighbours_share_the_references_window():
  variants = [make(CODES, p, 1, None) for p in (4001, 4002, 4002, 4010, 8000)]
  model = predictor(batch_windows=1)
  many = model.score_variants(variants, Contig("c", CODES))
  assert model._forward.calls == 2 + 5
  for one, variant in zip(many.scores, variants, strict=True):
    (alone,) = predictor().score_variants(variant, Contig("c", CODES)).scores
    for where, values in one.changes.items():
      np.testing.assert_array_equal(values, alone.changes[where])


@pytest.mark.parametrize(
  ("start", "end", "strand", "distance"),
  [
    (100, 200, 1, -1),
    (101, 200, 1, -2),
    (99, 100, 1, 0),
    (50, 99, 1, 1),
    (50, 99, -1, -1),
    (110, 200, -1, 11),
    (980, 1099, 1, 1),  # passes the origin of 1,000 bp
    (1100, 1200, 1, -1),
  ],
)
def test_distance_is_counted_as_the_gene_is_read(start, end, strand, distance):
  gene = Gene("g", "", "", start, end, strand, "gene", contig="c")
  view = View(0, 1000, 1000, True, 0, 1000)
  assert distance_bp(gene, 99, 100, view) == distance


def test_gene_downstream_is_affected_and_the_one_that_changes_most_is_named():
  genes = [("down", 4150, 4500, 1), ("in", 3900, 4050, -1), ("too-far", 4250, 4400, 1)]
  known = annotated(CODES, False, [*genes, ("behind", 4100, 4120, -1)])
  (score,) = predictor().score_variants([make(CODES, 4001, 1, None)], known, upstream_bp=200).scores
  by_name = {effect.gene.name: effect for effect in score.genes}
  assert [n for n, effect in by_name.items() if effect.affected] == ["down", "in"]
  sizes = {n: np.abs(by_name[n].change[:-2]).sum() for n in ("down", "in")}
  assert score.gene is by_name[max(sizes, key=sizes.get)]
  assert by_name["down"].distance_bp == -150
  table = predictor().score_variants([make(CODES, 4001, 1, None)], known).to_pandas()
  assert table.loc[0, "affected_genes"] == "down,in"


class Runs(StandIn):
  """A base lies in an operon unless it is A."""

  def __call__(self, windows, both):
    return {**super().__call__(windows, both), "operon_membership": (windows > 0)[..., None] * 0.9}


@pytest.mark.parametrize(
  ("position", "genes", "operon"),
  [
    (3906, [("next", 4302, 4340, 1)], (3600, 4000)),
    (4102, [("next", 4302, 4340, 1)], (4300, 4700)),
    (4102, [("next", 4102, 5000, 1)], (4300, 4700)),
    (4102, [], None),
  ],
  ids=["about-the-variant", "about-the-gene", "nearest-of-two", "none"],
)
def test_operon_is_the_predicted_region(position, genes, operon):
  codes = np.zeros(9000, np.uint8)
  for start in (3600, 4300, 4810):  # bases that are not A lie in operons
    codes[start : start + 400] = CODES[:400] % 3 + 1
  model = predictor()
  model._forward = Runs(3)
  (score,) = model.score_variants(
    [make(codes, position, 1, None)], annotated(codes, False, genes), upstream_bp=500
  ).scores
  assert score.operon == operon
  assert np.isnan(score.changes["in_operon"]).all() == (operon is None)


def test_given_operons_take_the_place_of_predicted_ones():
  variant = make(CODES, 4001, 1, None)
  known = AnnotatedGenome(
    [Contig("c", CODES)], {"c": ContigFeatures((), [(100, 200), (3950, 4100), (4500, 4600)])}
  )
  (score,) = predictor().score_variants([variant], known).scores
  _, change = compare(predictor(), CODES, False, variant, score.window)
  assert score.operon == (3950, 4100)
  first = score.window[0]
  np.testing.assert_allclose(
    score.changes["in_operon"], change[3950 - first : 4100 - first].mean(axis=0), atol=1e-5
  )


# REF as VCF 4.3 wants it: of an IUPAC letter the first base in the order of the alphabet.
IUPAC = {"R": "A", "Y": "C", "S": "C", "W": "A", "K": "G", "M": "A", "B": "C", "D": "A", "H": "A",
         "V": "A"}  # fmt: skip


def with_letter(path, letter, position=4001):
  """Reads the genome with a letter at a 1-based position."""
  letters = decode(CODES)
  path.write_text(f">c\n{letters[: position - 1]}{letter}{letters[position:]}\n")
  (contig,) = read_fasta(path)
  assert contig.codes[position - 1] == 4
  return contig


@pytest.mark.parametrize("letter", IUPAC)
def test_ambiguity_letters_are_scored_as_the_base_that_vcf_names(tmp_path, letter):
  """As if the genome had that base; neighbours that do not cover it see N, as before."""
  base = IUPAC[letter]
  plain = CODES.copy()
  plain[4000] = "ACGT".index(base)
  alt = "T" if base != "T" else "A"
  ambiguous = with_letter(tmp_path / "g.fna", letter)
  next_to_it = make(CODES, 4010, 1, None)
  several = Variant("c", 3999, decode(plain[3998:4002]), "A")
  variants = [next_to_it, Variant("c", 4001, base.lower(), alt), several, next_to_it]
  found = predictor().score_variants(variants, ambiguous).scores
  expected = predictor().score_variants(variants[1:3], Contig("c", plain)).scores
  (unknown,) = predictor().score_variants(next_to_it, Contig("c", ambiguous.codes)).scores
  for one, other in zip(found, [unknown, *expected, unknown], strict=True):
    assert one.reason == "" == other.reason
    for where, values in one.changes.items():
      np.testing.assert_array_equal(values, other.changes[where])


def test_another_base_than_vcf_names_is_a_mismatch(tmp_path):
  contig = with_letter(tmp_path / "g.fna", "R")
  for ref in "CGT":
    (score,) = predictor().score_variants(Variant("c", 4001, ref, "A"), contig).scores
    text = f"reference mismatch: REF is {ref}, the genome has A (of an ambiguity letter"
    assert score.reason.startswith(text)
  (score,) = (
    predictor()
    .score_variants(Variant("c", 4001, "A", "C"), with_letter(tmp_path / "n.fna", "N"))
    .scores
  )
  assert score.reason == "reference mismatch: REF is A, the genome has N"


REFUSED = {
  "contig": (Variant("chr", 1, "A", "C"), "unknown contig: no 'chr' in the genome, which has c, p"),
  "mismatch": (
    Variant("c", 10, "ACGTACGTA", "A"),
    "reference mismatch: REF is ACGTACGTA, the",
  ),
  "symbolic": (Variant("c", 10, "A", "<DEL>"), "symbolic allele or breakend: <DEL>"),
  "breakend": (Variant("c", 10, "A", "A[p:5["), "symbolic allele or breakend: A[p:5["),
  "star": (Variant("c", 10, "A", "*"), "allele *"),
  "none": (Variant("c", 10, "A", "."), "no alternative allele"),
  "same": (Variant("c", 10, "A", "a"), "ALT is the same as REF"),
  "letters": (Variant("c", 10, "N", "A"), "REF is no sequence: 'N'; expected the letters A C G T"),
  "outside": (
    Variant("c", 9001, "A", "C"),
    "the contig: REF at 9001; c has 9000 bp, linear",
  ),
  "zero": (Variant("c", 0, "A", "C"), "REF at 0; c has"),
  "end": (Variant("c", 9000, "AA", "C"), "REF at 9000; c has"),
  "long": (Variant("c", 10, "A" * 1025, "C"), "allele too long: 1025 bp; at most 1024"),
  "all": (Variant("p", 1, "A" * 50, "C"), "allele too long: 50 bp; at most 49"),
}


def test_what_can_not_be_scored_comes_back_with_the_reason():
  contigs = {"c": Contig("c", CODES), "p": Contig("p", CODES[:50], circular=True)}
  good = make(CODES, 4001, 1, None)
  variants = [good]
  for variant, _ in REFUSED.values():
    variants += [variant, good]
  result = predictor().score_variants(variants, contigs)
  assert [s.variant for s in result.scores] == variants
  assert all(s.reason == "" and s.changes for s in result.scores[::2])
  for score, (_, text) in zip(result.scores[1::2], REFUSED.values(), strict=True):
    assert text in score.reason and not score.changes
  table = result.to_pandas()
  assert list(table.status) == ["ok", *["refused", "ok"] * len(REFUSED)]
  assert table.loc[1].reason == result.scores[1].reason and np.isnan(table.loc[1].density_max_abs)
  assert result.to_numpy()["mean_abs"].shape == (len(variants), 4)


def test_only_refused_variants():
  result = predictor().score_variants([Variant("x", 1, "A", "C")], Contig("c", CODES))
  assert len(result) == 1 and result.to_pandas().status[0] == "refused"
  assert np.isnan(result.to_numpy()["at_variant"]).all()
  assert len(predictor().score_variants([], Contig("c", CODES)).to_pandas()) == 0


def test_tables_hold_the_numbers():
  known = annotated(CODES, False, [("down", 4050, 4500, 1)])
  variants = [make(CODES, 4001, 1, None), make(CODES, 4100, 3, "")]
  result = predictor().score_variants(variants, known)
  table, genes, data = result.to_pandas(), result.genes_to_pandas(), result.to_xarray()
  assert table.loc[1, "expression_in_gene:heat/-"] == result.scores[1].changes["in_gene"][1]
  assert table.loc[0, "window_start"] == result.scores[0].window[0] + 1
  assert list(genes.gene) == ["down", "down"] and list(genes.distance_bp) == [-50, 0]
  assert genes.loc[0, "membership_change"] == result.scores[0].genes[0].change[-1]
  chosen = data.expression_in_gene.sel(track="heat/-")
  assert float(chosen[1]) == result.scores[1].changes["in_gene"][1]
  assert data.density_at_variant.attrs["units"] == "change of genes per 128 bp"


VCF = (
  "##fileformat=VCFv4.2\r\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\r\n"
  "c\t12\trs1\tA\tC,<DEL>,AT\t.\t.\t.\r\n\r\nc\t13\t.\tG\tT\t9\tPASS\tX=1\tGT\t0/1\r\n"
)


@pytest.mark.parametrize("packed", [False, True])
def test_vcf_gives_one_variant_for_each_allele(tmp_path, packed):
  path = tmp_path / "v.vcf"
  path.write_bytes(gzip.compress(VCF.encode()) if packed else VCF.encode())
  expected = [Variant("c", 12, "A", alt, "rs1") for alt in ("C", "<DEL>", "AT")]
  assert list(read_vcf(path)) == [*expected, Variant("c", 13, "G", "T")]
  assert read_variants(path, []) == list(read_vcf(path))


@pytest.mark.parametrize(
  "line", ["c 12 . A C", "c\tx\t.\tA\tC", "c\t12\t.\tA", "c\t" + "9" * 5000 + "\t.\tA\tC"]
)
def test_line_that_is_no_vcf_is_named(tmp_path, line):
  path = tmp_path / "v.vcf"
  path.write_text(f"##fileformat=VCFv4.3\n{line}\n")
  with pytest.raises(DataError, match=r"v\.vcf, line 2: .*expected VCF"):
    list(read_vcf(path))


def test_data_frame_with_the_columns_of_either_habit():
  frame = pd.DataFrame({"#CHROM": ["c"], "POS": [12], "REF": ["A"], "ALT": ["C,G"], "ID": ["x"]})
  expected = [Variant("c", 12, "A", "C", "x"), Variant("c", 12, "A", "G", "x")]
  assert as_variants(frame) == expected
  other = pd.DataFrame({"contig": ["c"], "position": [12.0], "ref": ["A"], "alt": ["C"]})
  assert as_variants(other) == [Variant("c", 12, "A", "C")]
  with pytest.raises(DataError, match="no column for alt; it has contig, position, ref"):
    as_variants(other[["contig", "position", "ref"]])
  with pytest.raises(DataError, match=r"row 0: position 12\.5"):
    as_variants(other.assign(position=[12.5]))
  with pytest.raises(DataError, match=r"expected alphaecoli\.Variant"):
    as_variants([("c", 1, "A", "C")])
  with pytest.raises(DataError, match="variants are a int"):
    as_variants(3)


@pytest.mark.parametrize("circular", [False, True], ids=["linear", "circular"])
@pytest.mark.parametrize(
  "case", ["substitution", "insertion", "deletion", "last-base", "first-base"]
)
def test_offsets_average_the_changes_of_several_windows(case, circular):
  variant = make(CODES, *CASES[case])
  near = (max(variant.start - 30, 0), min(variant.start + 60, LENGTH))
  known = annotated(CODES, circular, [("near", *near, -1)])
  (score,) = predictor(batch_windows=2).score_variants([variant], known, offsets=4).scores
  first, outwards = score.window[0], -1 if variant.start < LENGTH // 2 else 1
  changes = {}
  for step in (0, 33, 66, 99):  # by hand: odd, a quarter of 128 or just more
    window = (first + outwards * step, first + outwards * step + WINDOW_BP)
    _, change = compare(predictor(), CODES, circular, variant, window)
    for row, values in enumerate(change):
      if not np.isnan(values).any():
        changes.setdefault(window[0] + row, []).append(values)
  means = {at: np.mean(values, axis=0) for at, values in changes.items() if len(values) == 4}
  close = {"rtol": 1e-4, "atol": 1e-5}
  inside = np.array([changes[at] for at in range(*near) if at in means])  # base, offset, channel
  np.testing.assert_allclose(score.genes[0].change, inside.mean(axis=(0, 1)), **close)
  assert len(inside) and score.genes[0].share == pytest.approx(len(inside) / (near[1] - near[0]))
  largest = np.max(np.abs(list(means.values())), axis=0)
  np.testing.assert_allclose(score.changes["max_abs"], largest, **close)
  genes = inside.mean(axis=0)
  # Student's t with three degrees of freedom, from a table
  np.testing.assert_allclose(score.grid, 3.182446 * genes.std(axis=0, ddof=1) / 2, **close)
  assert score.grid is score.genes[0].grid


def test_offsets_that_shift_the_grid_by_an_odd_distance():
  assert grid_offsets(1) == [0] and grid_offsets(2) == [0, 65]
  for count in range(1, 129):
    places = grid_offsets(count)
    assert len({place % 128 for place in places}) == len(places) == count
    assert count == 1 or {place % 2 for place in places} == {0, 1}
  for count in (0, 129):
    with pytest.raises(ConfigError, match=f"offsets={count}; expected 1 to 128"):
      predictor().score_variants([], Contig("c", CODES), offsets=count)


class Parity(StandIn):
  """Expression is 1 at even places of the window, whatever the sequence; as pooling might do."""

  def __call__(self, windows, both):
    even = np.broadcast_to((np.arange(WINDOW_BP) % 2 == 0)[:, None], (WINDOW_BP, 2))
    return {**super().__call__(windows, both), "gene_expression": np.stack([even] * len(windows))}


def test_effect_of_the_grid_alone_is_taken_out_and_marked():
  codes = np.ones(9000, np.uint8)
  genes = [("gene", 4150, 4151, 1)]  # one base, so that the grid shows
  variant = make(codes, 4100, 1, "A")
  model = predictor()
  model._forward = Parity(3)
  for offsets, change, marked in ((1, TABLE.expression[0].std, None), (2, 0.0, 1), (4, 0.0, 1)):
    result = model.score_variants([variant], annotated(codes, False, genes), offsets=offsets)
    found = result.scores[0].changes["in_gene"][0]
    assert abs(found) == pytest.approx(change, abs=1e-6), offsets
    table, by_gene = result.to_pandas(), result.genes_to_pandas()
    for marks in (table.within_grid_shift, by_gene.within_grid_shift):
      assert marks[0] == marked
    assert np.isnan(by_gene["expression_grid:heat/+"][0]) == (marked is None)


def test_change_that_all_places_of_the_windows_agree_on_is_not_marked():
  variants = [make(CODES, 4001, 1, None)]
  known = annotated(CODES, False, [("in", 3990, 4010, 1)])
  table = predictor().score_variants(variants, known, offsets=2).to_pandas()
  assert table.within_grid_shift[0] == 0


def test_quantile_is_the_share_of_random_variants_of_the_kind_with_smaller_effects():
  variants = [make(CODES, 4001, 1, None), make(CODES, 4100, 3, ""), make(CODES, 4200, 1, "ACG")]
  variants.append(Variant("c", 5, "N", "A"))
  genome = annotated(CODES, True)
  result = predictor().score_variants(variants, genome, background=4, seed=3)
  for kind, score in zip(((1, 1), (2, 0), (0, 3)), result.scores, strict=False):
    tries = [[random_variant(kind, genome, (3, n, k)) for k in range(9)] for n in range(4)]
    drawn = [next(filter(None, some)) for some in tries]  # the first that is possible
    sizes = [
      np.mean(one.changes["mean_abs"][:2])
      for one in predictor().score_variants(drawn, genome).scores
    ]
    size = np.mean(score.changes["mean_abs"][:2])
    expected = np.mean([1.0 * (other < size) + 0.5 * (other == size) for other in sizes])
    assert score.quantile == pytest.approx(expected)
  assert result.scores[3].quantile is None
  alone = predictor().score_variants(variants[1:2], genome, background=4, seed=3)
  assert alone.scores[0].quantile == result.scores[1].quantile
  assert list(result.to_pandas()["quantile"][:3]) == [s.quantile for s in result.scores[:3]]


@pytest.mark.parametrize("kind", [(1, 1), (0, 2), (5, 0), (3, 1), (2, 2)])
def test_random_variants_are_of_the_kind_and_spread_over_the_genome(kind):
  genome = {"c": Contig("c", CODES), "p": Contig("p", CODES[:3000], circular=True)}
  drawn = [random_variant(kind, genome, (0, number, 0)) for number in range(400)]
  fit = [variant for variant in drawn if variant]
  assert len(fit) > 200 and {kind_of(variant) for variant in fit} == {kind}
  scores = predictor().score_variants(fit[:5], genome).scores
  assert all(score.reason == "" for score in scores)  # REF is what the genome has
  share = np.mean([variant.contig == "p" for variant in fit])
  assert abs(share - 0.25) < 0.1
  places = [variant.position for variant in fit if variant.contig == "c"]
  assert abs(np.mean(places) - LENGTH / 2) < 800
  assert drawn[:3] == [random_variant(kind, genome, (0, number, 0)) for number in range(3)]


def test_background_that_fits_nowhere_is_one_line():
  codes = np.full(3000, 4, np.uint8)
  codes[1500:1503] = 0, 1, 2
  variant = Variant("c", 1501, "ACG", "A")
  with pytest.raises(DataError, match=r"no random variant that replaces 2 bp by 0 fits the genome"):
    predictor().score_variants([variant], Contig("c", codes), background=3)
