import bz2
import gzip
import logging
import lzma

import numpy as np
import pytest

from alphaecoli.errors import DataError
from alphaecoli.genomics.sequence import (
  decode,
  encode,
  random_genome,
  read_fasta,
  reverse_complement,
)


def test_bases_are_acgt_in_this_order_and_other_letters_four():
  np.testing.assert_array_equal(encode("ACGTacgtNRYn-"), [0, 1, 2, 3] * 2 + [4] * 5)
  assert decode(encode("acgtRN")) == "ACGTNN"
  assert decode(encode("acguU")) == "ACGTT"


def test_a_character_that_is_no_letter_is_refused_with_its_position():
  with pytest.raises(DataError, match="'1' at position 2"):
    encode("AC1T")


def test_reverse_complement_by_hand_and_twice_is_the_identity():
  codes = encode("AACGTN")
  assert decode(reverse_complement(codes)) == "NACGTT"
  twice = reverse_complement(reverse_complement(codes))
  np.testing.assert_array_equal(twice, codes)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_fasta_of_several_contigs(tmp_path, compressed):
  text = b"\n>chr1 E. coli\nACgt\r\nNN ac\n\n>p2\tplasmid\nTT\n"
  path = tmp_path / "g.fna"
  path.write_bytes(gzip.compress(text) if compressed else text)
  contigs = read_fasta(path)
  assert [(c.name, c.description, decode(c.codes)) for c in contigs] == [
    ("chr1", "E. coli", "ACGTNNAC"),
    ("p2", "plasmid", "TT"),
  ]
  assert contigs[0].length_bp == 8


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (b"", "holds no sequence"),
    (b"ACGT\n", "line 1: not FASTA"),
    (b">a\n>b\nAC\n", "line 1: contig 'a' has no sequence"),
    (b">a\nAC\n>a\nAC\n", "line 3: contig 'a' appears twice"),
    (b">\nAC\n", "line 1: a contig without a name"),
    (b">a\nAC\nA1\n", "line 3: '1'"),
    (b"\x00\x01binary", "line 1: not FASTA"),
    (gzip.compress(b">a\n" + b"ACGT" * 99, mtime=0)[:-9], "truncated or corrupt"),
    (b"\x1f\x8bnonsense", "truncated or corrupt"),
  ],
)
def test_a_broken_fasta_is_one_error_with_file_and_line(tmp_path, text, message):
  path = tmp_path / "g.fna"
  path.write_bytes(text)
  with pytest.raises(DataError, match=message) as caught:
    read_fasta(path)
  assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_proteins_are_refused_and_unknown_bases_are_not(tmp_path):
  path = tmp_path / "thr.faa"
  path.write_text(">NP_414543.1 thrA\nMRVLKFGGTSVANAERFLRVADILESNARQGQVATVLSAPAKITNHLVAM\n")
  with pytest.raises(DataError, match=r"thr\.faa: line 1: NP_414543\.1 is a protein"):
    read_fasta(path)
  path.write_text(">c masked\n" + "ACGTRYSWKMBDHVNX" * 9 + "e" * 15 + "\n")
  assert read_fasta(path)[0].length_bp == 159


def test_rna_reads_as_dna_and_is_said(tmp_path, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  caplog.set_level("INFO")
  path = tmp_path / "r.fna"
  path.write_text(">r\nACGU\nuuNR\n>d\nACGT\n")
  assert [decode(contig.codes) for contig in read_fasta(path)] == ["ACGTTTNN", "ACGT"]
  assert [r.getMessage() for r in caplog.records] == [f"{path}: U is read as T (RNA letters): r"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
def test_line_ends_byte_order_mark_and_compression(tmp_path, end, pack):
  path = tmp_path / "g.fna"
  text = "\ufeff>chr1 x\nACgt\nNN\n\n>p2\nTT\n".replace("\n", end)
  path.write_bytes(pack(text.encode()))
  assert [(c.name, decode(c.codes)) for c in read_fasta(path)] == [
    ("chr1", "ACGTNN"),
    ("p2", "TT"),
  ]


@pytest.mark.parametrize(
  "content",
  [
    lzma.compress(b">a\n" + bytes(range(65, 90)) * 99)[:-20],
    bz2.compress(b">a\n" + bytes(range(65, 90)) * 99)[:-20],
    b"BZh91AY&SYnonsense and more of it",
    b"PK\x03\x04 a zip",
  ],
  ids=["xz", "bz2", "bz2-nonsense", "zip"],
)
def test_broken_and_unknown_compression_is_one_line(tmp_path, content):
  path = tmp_path / "g.fna"
  path.write_bytes(content)
  with pytest.raises(DataError, match=r"truncated or corrupt|unpack it first") as caught:
    read_fasta(path)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "text",
  [
    ">" + "x" * 10_000 + "\n",
    "A" * 10_000,
    f">{'a' * 9000}\nAC\n>{'a' * 9000}\nAC\n",
    ">a " * 3000,
  ],
  ids=["empty", "no-header", "twice", "header"],
)
def test_errors_do_not_repeat_the_file(tmp_path, text):
  path = tmp_path / "g.fna"
  path.write_text(text)
  with pytest.raises(DataError) as caught:
    read_fasta(path)
  assert len(str(caught.value)) < len(str(path)) + 300


def test_ambiguity_letters_keep_the_base_that_vcf_names(tmp_path):
  path = tmp_path / "g.fna"
  path.write_text(">a\nACGTNRYSWKMBDHVrn-\n>b\nACGTNN\n")
  ambiguous, plain = read_fasta(path)
  assert decode(ambiguous.codes) == "ACGT" + "N" * 14
  # The first letter in the alphabet: R is A or G, Y C or T, S C or G, W A or T, K G or T, M A or C,
  # B all but A, D all but C, H all but G, V all but T.
  assert decode(ambiguous.vcf_codes) == "ACGTNACCAGACAAAANN"
  assert plain.vcf_codes is None


def test_a_missing_fasta_is_an_error(tmp_path):
  with pytest.raises(DataError, match="no such genome file"):
    read_fasta(tmp_path / "none.fna")


def test_random_genome_depends_on_its_seed_alone():
  first, again, other = (random_genome(5000, seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first.codes, again.codes)
  assert (first.codes != other.codes).any()
  assert np.bincount(first.codes, minlength=5)[:4].min() > 1000
