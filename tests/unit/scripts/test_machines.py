"""The example data are the same for the same seed, and are what the document says."""

from __future__ import annotations

import csv

from scripts import machines


def test_the_same_seed_gives_the_same_file(tmp_path, capsys):
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for path, seed in zip(paths, ("1", "1", "2"), strict=True):
        assert machines.main([str(path), "--rows", "200", "--seed", seed]) == 0
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second != third
    assert "200 pumps" in capsys.readouterr().out


def test_there_are_twenty_features_missing_values_and_two_classes(tmp_path):
    machines.main([str(tmp_path / "a.csv")])
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), len(rows[0])) == (1500, 21)
    assert {row["failed"] for row in rows} == {"yes", "no"}
    assert any("" in row.values() for row in rows)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, capsys):
    assert machines.main([str(tmp_path / "no/where.csv")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
