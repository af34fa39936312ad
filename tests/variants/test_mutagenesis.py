"""In-silico mutagenesis: the same numbers as one prediction for each changed sequence."""

import matplotlib.image
import numpy as np
import pytest

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.genes import ContigFeatures, Gene
from alphaecoli.genomics.read import Element, read_elements
from alphaecoli.genomics.sequence import Contig, decode, reverse_complement
from alphaecoli.inference.arguments import AnnotatedGenome
from alphaecoli.plotting import logo
from tests.inference.standin import predictor, random_codes

CODES = random_codes(6000, seed=3)
GENE = Gene("g1", "toyA", "b1", 2900, 3100, -1, "gene", contig="c")


def known(circular=False):
  return AnnotatedGenome([Contig("c", CODES, circular=circular)], {"c": ContigFeatures([GENE])})


def mean_of_target(codes, window, span, circular):
  result = predictor().predict(codes, window, circular=circular, one_window=True)
  rows = slice(span[0] - window[0], span[1] - window[0])
  density = np.repeat(result.gene_density, 128, axis=0)
  table = np.hstack([result.gene_expression, density, result.operon_membership])
  return table[rows].mean(axis=0, dtype=float)


@pytest.mark.parametrize(
  ("interval", "target", "span", "circular"),
  [
    ("c:3101-3112", "toyA", (2900, 3100), False),
    ("c:3101-3104", "b1", (2900, 3100), True),
    (("c", 5998, 6002), "c:5901-6000", (5900, 6000), True),
    ((2, 6), None, (2, 6), False),
  ],
)
def test_each_substitution_is_the_difference_of_two_predictions(interval, target, span, circular):
  model = predictor(batch_windows=3)
  result = model.ism(interval, known(circular), target=target)
  n = result.end - result.start
  assert result.changes.shape == (n, 4, 4) and result.target_share == 1.0
  bases = [int(CODES[p % 6000]) for p in range(result.start, result.end)]
  assert result.reference.tolist() == bases
  assert model._forward.calls == -(-(1 + 3 * sum(b < 4 for b in bases)) // 3)
  before = mean_of_target(CODES, result.window, span, circular)
  np.testing.assert_allclose(result.baseline, before, rtol=1e-5)
  for offset, base in enumerate(bases):
    for other in range(4):
      changed = CODES.copy()
      changed[(result.start + offset) % 6000] = other
      expected = mean_of_target(changed, result.window, span, circular) - before
      expected = expected if base < 4 else np.full(4, np.nan)
      np.testing.assert_allclose(result.changes[offset, other], expected, atol=2e-5)


def test_importance_is_minus_the_mean_effect_of_the_three_substitutions():
  result = predictor().ism("c:3101-3110", known(), target="toyA")
  for offset, base in enumerate(result.reference.tolist()):
    others = [result.changes[offset, b, 1] for b in range(4) if b != base]
    if base < 4:
      assert result.importance("expression:heat/-")[offset] == pytest.approx(-np.mean(others))
    else:
      assert np.isnan(result.importance("density")[offset])
  with pytest.raises(ConfigError, match="no channel 'tpm'; expected one of expression:heat"):
    result.importance("tpm")


def test_tables_of_a_region_that_passes_the_origin():
  result = predictor().ism(("c", 5998, 6002), known(True))
  rows = [r for r in result.rows() if r[1] > 5990]
  assert {r[1] for r in result.rows()} <= {5999, 6000, 1, 2} and rows
  table = result.to_pandas()
  assert (
    list(table.columns[:4]) == ["contig", "pos", "ref", "alt"] and (table.ref != table.alt).all()
  )
  offset = (table.pos[0] - 1 - result.start) % 6000
  alt = "ACGT".index(table.alt[0])
  assert table.density_change[0] == pytest.approx(result.changes[offset, alt, -2])
  data = result.to_xarray()
  chosen = data.expression.sel(base=table.alt[0], track="heat/-", position=result.start + offset)
  assert float(chosen) == result.changes[offset, alt, 1]
  assert "".join(data.reference.values) == decode(result.reference)
  assert data.expression.attrs["units"] == "change of ln(1 + TPM)"


@pytest.mark.parametrize(
  ("interval", "target", "text"),
  [
    ("c:5999-6001", None, "region 5999-6001 is not on c, which has 6000 bp"),
    ("c:1-3000", None, "more than the model's window of 2048"),
    ("c:3101-3110", "toyB", "no gene 'toyB' in the annotation; nearest: toyA"),
    ("c:5001-5010", "toyA", "toyA is not in the window of 2048 bp about c:5001-5010"),
    ("c:3101-3110", (5, 7000), r"target \(5, 7000\) is not on c"),
  ],
)
def test_what_does_not_fit_is_one_line(interval, target, text):
  with pytest.raises(ConfigError, match=text):
    predictor().ism(interval, known(), target=target)


def test_gene_needs_an_annotation_and_one_name():
  with pytest.raises(ConfigError, match="needs an annotation, and the genome was read without"):
    predictor().ism("c:1-9", Contig("c", CODES), target="toyA")
  twice = AnnotatedGenome([Contig("c", CODES)], {"c": ContigFeatures([GENE, GENE])})
  with pytest.raises(ConfigError, match="2 genes are called 'b1': c:2901-3100"):
    predictor().ism("c:1-9", twice, target="b1")


def test_picture_shows_letters_map_and_elements(tmp_path, monkeypatch):
  result = predictor().ism("c:3101-3250", known(), target="toyA")
  seen = []
  original = logo._figure

  def keep(view):
    seen.append((view, original(view)))
    return seen[-1][1]

  monkeypatch.setattr(logo, "_figure", keep)
  elements = [
    Element("c", 3110, 3116, -1, "-10", ""),
    Element("c", 3090, 3120, -1, "TFBS", ""),
    Element("other", 3110, 3116, -1, "no", ""),
    Element("c", 3260, 3270, -1, "far", ""),
  ]
  logo.draw_logo(result, tmp_path / "logo.png", "expression:heat/-", elements)
  image = matplotlib.image.imread(tmp_path / "logo.png")
  assert image.shape[0] > 400 and image.std() > 0.05
  view, figure = seen[0]
  # the gene lies on the minus strand: drawn in its direction, complemented
  assert "".join(view.letters) == decode(reverse_complement(CODES[3100:3250]))
  assert view.positions[0] == 3250
  assert sorted(view.bars) == [(130, 150, "TFBS"), (134, 140, "-10")]
  ism = result.changes[:, :, 1]
  t_at_first = view.effects[0][3]  # T on the minus strand is A on the plus strand
  assert t_at_first == ism[-1][0] or (np.isnan(t_at_first) and result.reference[-1] == 4)
  texts = [t.get_text() for axis in figure.axes for t in axis.texts]
  assert set(texts) == {"-10", "TFBS"}
  letters = [c for axis in figure.axes[1::3] for c in axis.collections]
  drawn = sum(len(c.get_paths()) for c in letters)
  assert drawn == np.count_nonzero(np.nan_to_num(view.heights)) > 100
  with pytest.raises(DataError, match=r"logo\.xyz: can not be written"):
    logo.draw_logo(result, tmp_path / "logo.xyz", "density")


def test_elements_from_gff3_and_bed(tmp_path):
  gff, bed = tmp_path / "e.gff3", tmp_path / "e.bed"
  gff.write_text(
    "##gff-version 3\nc\tx\tpromoter\t11\t20\t.\t-\t.\tID=p1;Name=lacp1\n"
    "c\tx\toperon\t5\t50\t.\t+\t.\tID=o1\n"
  )
  bed.write_text("track name=x\nc\t10\t20\tlacp1\t0\t-\nc 4 50\n")
  assert read_elements(gff)[0] == Element("c", 10, 20, -1, "lacp1", "promoter")
  assert read_elements(gff, "operon") == [Element("c", 4, 50, 1, "o1", "operon")]
  assert read_elements(bed) == [
    Element("c", 10, 20, -1, "lacp1", ""),
    Element("c", 4, 50, 0, "", ""),
  ]
  bed.write_text("c\t20\t20\n")
  with pytest.raises(DataError, match=r"e\.bed, line 1: .*expected BED"):
    read_elements(bed)
  bed.write_text("#nothing\n")
  with pytest.raises(DataError, match="no feature in it"):
    read_elements(bed)
