"""Which files are genomes, what their folders are called, and who predicts which."""

import pytest

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.inference.genome_files import (
  GenomeFile,
  find_genome_files,
  find_process,
  folder_names,
  shard,
)


@pytest.fixture
def tree(tmp_path):
  """A folder of genomes, and a second one with the same names."""
  for name in ("a.fna", "b.gbff.gz", "notes.txt", "c.FASTA", "proteins.faa", "sub/a.fna"):
    path = tmp_path / "x" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
  (tmp_path / "x" / "d.fna").mkdir()
  return tmp_path


def test_folder_gives_its_genomes_in_order(tree):
  found = find_genome_files([tree / "x"], None, None)
  assert [(s.path.name, s.folder) for s in found] == [
    ("a.fna", "a"),
    ("b.gbff.gz", "b"),
    ("c.FASTA", "c"),
  ]


def test_single_file_needs_no_folder_and_a_list_of_one_does(tree):
  path = tree / "x" / "a.fna"
  assert find_genome_files([path], None, None) == [GenomeFile(path)]
  listed = tree / "list"
  listed.write_text(f"# genomes\n\n{path}\t{tree / 'a.gff'}\n")
  assert find_genome_files([], listed, None) == [GenomeFile(path, tree / "a.gff", "a")]
  assert len(find_genome_files([path, path, tree / "x"], listed, None)) == 3  # each once


def test_annotations_by_stem(tree):
  for name in ("a.gff3.gz", "c.gff", "z.gff"):
    (tree / name).write_text("")
  found = find_genome_files([tree / "x"], None, tree)
  assert [s.annotation and s.annotation.name for s in found] == ["a.gff3.gz", None, "c.gff"]
  with pytest.raises(ConfigError, match="one file for 3 genomes"):
    find_genome_files([tree / "x"], None, tree / "c.gff")
  (single,) = find_genome_files([tree / "x" / "a.fna"], None, tree / "z.gff")
  assert single.annotation == tree / "z.gff"


def test_nothing_to_predict_is_one_line(tree):
  with pytest.raises(ConfigError, match="no genome: give --fasta"):
    find_genome_files([], None, None)
  (tree / "empty").mkdir()
  with pytest.raises(ConfigError, match="no genome in this folder"):
    find_genome_files([tree / "empty"], None, None)
  (tree / "list").write_text("# nothing\n")
  with pytest.raises(DataError, match="empty"):
    find_genome_files([], tree / "list", None)
  with pytest.raises(DataError, match="can not be read"):
    find_genome_files([], tree / "absent", None)
  (tree / "list").write_text(">chr\nACGT\n")
  with pytest.raises(DataError, match="holds sequences"):
    find_genome_files([], tree / "list", None)
  (tree / "list").write_text("a\tb\tc\n")
  with pytest.raises(DataError, match="3 columns"):
    find_genome_files([], tree / "list", None)


def test_folders_have_different_names_that_other_genomes_do_not_change(tmp_path):
  paths = [
    tmp_path / name
    for name in (
      *("x/genomic.fna", "y/genomic.fna", "x/k12.fna", "x/k12.gbk", "x/K12.FA.gz", "z/p.fa"),
      *("x/genomes.tsv.fa", "x/a b.fa", "q/x/genomic.fna"),
    )
  ]
  names = folder_names(paths, ["genomes.tsv"])
  assert len({name.lower() for name in names.values()}) == len(paths)
  assert [names[path] for path in paths[1:8]] == [
    "y_genomic",
    "k12.fna",
    "k12.gbk",
    "K12.FA.gz",
    "p",
    "genomes.tsv.fa",
    "a_b",
  ]
  assert names[paths[0]].startswith("genomic-") and names[paths[8]].startswith("genomic-")
  assert folder_names(paths[::-1], ["genomes.tsv"]) == names


def test_shares_are_disjoint_complete_and_even(tmp_path):
  sources = []
  for number, size in enumerate([900, 10, 500, 500, 20, 30, 400, 600]):
    path = tmp_path / f"{number}.fna"
    path.write_bytes(b"A" * size)
    sources.append(GenomeFile(path, None, f"{number}"))
  sources.append(GenomeFile(tmp_path / "absent.fna", None, "absent"))
  for count in (1, 2, 3, 20):
    parts = [shard(sources, index, count) for index in range(count)]
    assert sorted(s.folder for part in parts for s in part) == sorted(s.folder for s in sources)
    assert parts == [shard(sources[::-1], index, count) for index in range(count)]
    if count <= 3:
      loads = [sum(s.bytes for s in part) for part in parts]
      assert max(loads) - min(loads) < 100
  with pytest.raises(ConfigError, match="process 2 of 2"):
    shard(sources, 2, 2)


def test_share_by_flags_and_schedulers():
  slurm = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}
  mpi = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
  assert find_process(None, None, {}) == (0, 1)
  assert find_process(None, None, slurm) == (3, 8)
  assert find_process(None, None, mpi) == (1, 2)
  assert find_process(0, 1, slurm) == (0, 1)
  # A batch script that starts no step has the tasks of the job, and runs once.
  assert find_process(None, None, {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == (0, 1)
  with pytest.raises(ConfigError, match="go together"):
    find_process(1, None, {})


def test_expected_bases_are_near_the_truth(tmp_path):
  path = tmp_path / "x.fna"
  path.write_bytes(b"A" * 700)
  assert (
    GenomeFile(path).expected_bp == 700 and GenomeFile(tmp_path / "absent.fna").expected_bp == 0
  )
