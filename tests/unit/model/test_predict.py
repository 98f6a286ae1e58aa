"""Offline scoring: the whole command, in process and as a process."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import threading

import numpy as np
import pytest

from model import predict, predictor, verify
from tests.conftest import ROOT

HEADER = "bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g"
GOOD = "39.1,18.7,181,3750"
OUTPUT = [
    "prediction",
    "label",
    "probability_Adelie",
    "probability_Chinstrap",
    "probability_Gentoo",
    "prediction_set",
    "novelty",
    "is_novel",
    "converted",
    "error",
]
COMMAND = [sys.executable, "-m", "model.predict"]


@pytest.fixture
def run(bundles, tmp_path, capfd):
    """Score a text in process; returns status, rows as dicts (None without an output file), and stderr."""

    def score(content, *options, bundle="penguins"):
        source, target = tmp_path / "in.csv", tmp_path / "out.csv"
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
        status = predict.main(
            [str(bundles[bundle]), str(source), str(target), *options], clock=iter([1.0, 3.0]).__next__
        )
        errors = capfd.readouterr().err.replace(str(tmp_path) + "/", "")
        return status, table(target) if target.exists() else None, errors

    return score


@pytest.fixture
def many(tmp_path):
    """Write a penguins CSV of n rows and return its path."""
    rows = [
        row for row in (ROOT / "model/data/penguins.csv").read_text().splitlines()[1:] if ",NA,NA,NA,NA," not in row
    ]

    def write(count):
        path = tmp_path / f"{count}.csv"
        with path.open("w") as file:
            file.write("species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year\n")
            file.writelines(rows[i % len(rows)] + "\n" for i in range(count))
        return path

    return write


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.mark.parametrize("engine", [None, "onnx", "xgboost"])
@pytest.mark.parametrize("name", ["penguins", "iris"])
def test_every_real_row_equals_the_predictor(name, engine, run, bundles, request):
    if (name, engine) == ("iris", "xgboost"):
        pytest.skip("iris is no XGBoost model")
    data = request.getfixturevalue(f"{name}_data")
    known = predictor.load(verify.read(bundles[name]), engine)
    expected, classes = known.predict(data.matrix), known.manifest.classes

    content = (ROOT / f"model/data/{name}.csv").read_bytes()
    status, rows, _ = run(content, *([] if engine is None else ["--engine", engine]), bundle=name)

    answered = [row for row in rows if not row["error"]]
    assert status == (1 if data.dropped_lines else 0)
    assert len(rows) - len(answered) == len(data.dropped_lines)
    probabilities = [[float(row[f"probability_{c}"]) for c in classes] for row in answered]
    np.testing.assert_array_equal(probabilities, expected.probabilities)
    np.testing.assert_array_equal([float(row["novelty"]) for row in answered], expected.novelty)
    assert [int(row["prediction"]) for row in answered] == expected.classes.tolist()
    assert [row["label"] for row in answered] == [classes[c] for c in expected.classes]
    assert [row["is_novel"] == "true" for row in answered] == expected.is_novel.tolist()
    assert [[c in row["prediction_set"].split(";") for c in classes] for row in answered] == expected.sets.tolist()


def test_columns_of_the_input_come_first_and_unchanged(run):
    names = ["note", "body_mass_g", "bill_depth_mm", "flipper_length_mm", "bill_length_mm"]

    status, [row], _ = run(f'{",".join(names)}\n" a ""b"", c ", 3750,18.70,1.81e2,39.1\n')

    assert status == 0
    assert list(row) == [*names, *OUTPUT]
    assert list(row.values())[:5] == [' a "b", c ', " 3750", "18.70", "1.81e2", "39.1"]
    assert row["label"] == "Adelie"


def test_a_bad_row_is_named_and_the_others_are_answered(run):
    status, rows, errors = run(f"{HEADER}\n{GOOD}\n39.1,deep,,3750\n39.1,18.7\n{GOOD},extra\n{GOOD}\n")

    assert status == 1
    assert [row["label"] for row in rows] == ["Adelie", "", "", "", "Adelie"]
    assert all(not row[name] for row in rows[1:4] for name in OUTPUT[:-1])
    assert [row["error"] for row in rows] == [
        "",
        'column "bill_depth_mm": \'deep\' is not a number; column "flipper_length_mm": required: flipper length in mm',
        "has 2 cells, the header has 4",
        "has 5 cells, the header has 4",
        "",
    ]
    assert errors.splitlines() == [
        "in.csv:3: column \"bill_depth_mm\": 'deep' is not a number",
        'in.csv:3: column "flipper_length_mm": required: flipper length in mm',
        "in.csv:4: has 2 cells, the header has 4",
        "in.csv:5: has 5 cells, the header has 4",
        "in.csv: 2 rows answered, 3 bad, 2.00 s, 2 rows/s",
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param("39.1,18.7,181,abc", "'abc' is not a number", id="text"),
        pytest.param("39.1,18.7,181,NA", "required: body mass in g", id="missing"),
        pytest.param("39.1,18.7,181,30001", "30001 is outside 300 to 30000 g", id="range"),
        pytest.param("39.1,18.7,181,3.75", "in kilograms it would be 3750 g", id="unit"),
    ],
)
def test_every_kind_of_bad_cell_is_refused(row, reason, run):
    status, [found], errors = run(f"{HEADER}\n{row}\n")

    assert (status, found["label"]) == (1, "")
    assert reason in found["error"]
    assert errors.startswith('in.csv:2: column "body_mass_g": ')


def test_only_the_first_problems_are_shown_and_the_rest_counted(run):
    status, rows, errors = run(f"{HEADER}\n" + "x,18.7,181,3750\n" * 25)

    assert (status, len(rows)) == (1, 25)
    assert errors.splitlines()[19:] == [
        "in.csv:21: column \"bill_length_mm\": 'x' is not a number",
        "in.csv: 5 more problems",
        "in.csv: 0 rows answered, 25 bad, 2.00 s, 12 rows/s",
    ]


def test_a_unit_is_converted_only_where_asked(run):
    content = f"{HEADER}\n{GOOD}\n39.1,1.87,181,3750\n"

    refused, kept, _ = run(content)
    converted, rows, errors = run(content, "--on-unit", "convert")

    assert (refused, converted) == (1, 0)
    assert "in centimeters it would be 18.7 mm" in kept[1]["error"]
    assert rows[1]["bill_depth_mm"] == "1.87"
    assert (rows[0]["converted"], rows[1]["converted"]) == (
        "",
        'column "bill_depth_mm": 1.87 cm was read as 18.7 mm',
    )
    answers = [name for name in OUTPUT if name != "converted"]
    assert [rows[1][name] for name in answers] == [rows[0][name] for name in answers]
    assert errors.splitlines() == [
        'in.csv:3: column "bill_depth_mm": 1.87 cm was read as 18.7 mm',
        "in.csv: 2 rows answered, 0 bad, 1 values converted, 2.00 s, 1 rows/s",
    ]


def test_null_words_can_be_chosen(run):
    _, rows, _ = run(f"{HEADER}\n39.1,-,181,3750\n39.1,.,181,3750\n39.1,NA,181,3750\n", "--null", "-", "--null", ".")

    assert [row["error"].partition(": ")[2] for row in rows] == [
        "required: bill depth in mm",
        "required: bill depth in mm",
        "'NA' is not a number",
    ]


def test_bad_rows_can_be_mended_and_scored_again(run, tmp_path):
    bad = tmp_path / "bad.csv"

    run(f'note,{HEADER}\n"a,\nb",39.1,x,181,3750\nc,{GOOD}\nd,39.1\n', "--bad-rows", str(bad))
    assert bad.read_text() == f'note,{HEADER}\n"a,\nb",39.1,x,181,3750\nd,39.1\n'
    status, rows, _ = run(bad.read_text().replace(",x,", ",18.7,").replace("d,39.1", f"d,{GOOD}"))

    assert status == 0
    assert [row["label"] for row in rows] == ["Adelie", "Adelie"]


def test_a_script_reads_what_became_of_the_rows(bundles, tmp_path, capsys):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(f"{HEADER}\n{GOOD}\n39.1,x,181,3750\n")
    arguments = [str(bundles["penguins"]), str(source), str(target), "--json"]

    assert predict.main(arguments, clock=iter([1.0, 3.0]).__next__) == 1
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "input": str(source),
        "output": str(target),
        "bad_rows": None,
        "digest": f"sha256:{bundles['penguins'].name}",
        "answered": 1,
        "bad": 1,
        "converted_values": 0,
        "seconds": 2.0,
    }


@pytest.mark.parametrize("written", [["-"], ["out.csv", "--bad-rows", "-"]], ids=["answers", "bad rows"])
def test_the_summary_and_rows_do_not_share_stdout(written, bundles, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD}\n")

    assert predict.main([str(bundles["penguins"]), "in.csv", *written, "--json"]) == 2
    assert capsys.readouterr().err == "error: --json: prints to stdout, where the rows go; give them a file\n"


def test_bad_rows_without_any_are_only_a_header(run, tmp_path):
    assert run(f"{HEADER}\n{GOOD}\n", "--bad-rows", str(tmp_path / "bad.csv"))[0] == 0
    assert (tmp_path / "bad.csv").read_text() == f"{HEADER}\n"


def test_lines_are_right_after_quoted_newlines(run):
    _, rows, errors = run(f'note,{HEADER}\r\n"one\r\ntwo",{GOOD}\r\n\r\n"a\nb",39.1,x,181,3750\r\n')

    assert rows[0]["note"] == "one\r\ntwo"
    assert errors.startswith('in.csv:5: column "bill_depth_mm"')


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no BOM", "BOM"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_files_of_spreadsheets_are_read(mark, end, run):
    status, [row], _ = run(mark + f"{HEADER}{end}{GOOD}{end}".encode())

    assert (status, row["label"], next(iter(row))) == (0, "Adelie", "bill_length_mm")


def test_a_header_alone_gives_a_header(run, tmp_path):
    status, rows, errors = run(f"{HEADER}\n")

    assert (status, rows) == (0, [])
    assert (tmp_path / "out.csv").read_text() == f"{HEADER},{','.join(OUTPUT)}\n"
    assert errors == "in.csv: 0 rows answered, 0 bad, 2.00 s, 0 rows/s\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            "a,b\n1,2\n", 'in.csv:1: column "bill_length_mm": is not in the header, which has: a, b', id="missing"
        ),
        pytest.param(f"x,{HEADER},x\n", 'in.csv:1: column "x": stands 2 times in the header', id="duplicate"),
        pytest.param(
            f"{HEADER}, label\n",
            'in.csv:1: column "label": is the name of an output column, too; rename it in the input',
            id="output column",
        ),
        pytest.param("", "in.csv: is empty; the first line must name the columns", id="empty"),
        pytest.param(f'{HEADER}\n{GOOD}\n"1"2\n', "in.csv:3: is not CSV: ',' expected after '\"'", id="quoting"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(content, message, run, tmp_path):
    assert run(content) == (2, None, f"error: {message}\n")
    assert sorted(os.listdir(tmp_path)) == ["in.csv"]


def test_an_old_output_stays_when_a_run_fails(run, tmp_path):
    (tmp_path / "out.csv").write_text("a\nold\n")

    assert run("a,b\n")[:2] == (2, [{"a": "old"}])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["b"], "the following arguments are required: in.csv, out.csv (python -m model.predict --help"),
        (["b", "i", "o", "--on-unit", "guess"], "argument --on-unit: invalid choice: 'guess'"),
        (["b", "i", "o", "--fast"], "unrecognized arguments: --fast"),
    ],
    ids=["too few", "choice", "unknown"],
)
def test_wrong_usage_is_said_in_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        predict.main(arguments)

    errors = capsys.readouterr().err
    assert caught.value.code == 2
    assert errors.startswith(f"error: {message}")
    assert errors.count("\n") == 1


def test_help_says_what_the_exit_status_means(capsys):
    with pytest.raises(SystemExit) as caught:
        predict.main(["--help"])

    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert "0 every row was answered; 1 some rows were bad; 2 wrong usage" in text
    assert "example: python -m model.predict" in text


def test_a_bundle_that_is_not_the_pinned_one_is_refused(run):
    status, rows, errors = run(f"{HEADER}\n{GOOD}\n", "--digest", "sha256:" + "0" * 64)

    assert (status, rows) == (2, None)
    assert errors.startswith("error: digest_mismatch: ")


def test_the_pinned_bundle_is_accepted(run, penguins):
    assert run(f"{HEADER}\n{GOOD}\n", "--digest", penguins.digest)[0] == 0


def test_a_changed_bundle_is_refused_before_the_first_row(bundles, tmp_path, capfd):
    folder = tmp_path / "bundle"
    shutil.copytree(bundles["penguins"], folder)
    payload = bytearray((folder / "model.onnx").read_bytes())
    payload[len(payload) // 2] ^= 1
    (folder / "model.onnx").write_bytes(payload)

    status = predict.main([str(folder), str(ROOT / "model/data/penguins.csv"), str(tmp_path / "out.csv")])

    assert status == 2
    assert capfd.readouterr().err == "error: hash_mismatch: model.onnx is not the file the manifest names\n"
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("missing.csv", ["out.csv"], "missing.csv: cannot be read: No such file or directory"),
        ("in.csv", ["nowhere/out.csv"], "nowhere/out.csv cannot be written: No such file or directory"),
        ("in.csv", ["./in.csv"], "in.csv: is the input; it is not written over"),
        (
            "in.csv",
            ["out.csv", "--bad-rows", "out.csv"],
            "out.csv: is the output; the bad rows need a file of their own",
        ),
        ("in.csv", ["-", "--bad-rows", "-"], "-: is the output; the bad rows need a file of their own"),
        ("in.csv", ["/dev/full"], "the output cannot be written: No space left on device"),
    ],
    ids=["no input", "no folder", "input is output", "bad rows are output", "stdout twice", "disk full"],
)
def test_files_that_do_not_work_are_refused(source, options, message, bundles, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text(f"{HEADER}\n{GOOD}\n")

    status = predict.main([str(bundles["penguins"]), source, *options])

    assert status == 2
    assert capfd.readouterr().err.splitlines()[-1] == f"error: {message}"
    assert os.listdir(tmp_path) == ["in.csv"]


def test_stdin_and_stdout_are_dashes(bundles):
    done = subprocess.run(
        [*COMMAND, str(bundles["penguins"]), "-", "-"],
        cwd=ROOT,
        input=f"{HEADER}\n{GOOD}\nx,18.7,181,3750\n".encode(),
        capture_output=True,
        check=False,
    )

    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    assert lines[0] == f"{HEADER},{','.join(OUTPUT)}"
    assert lines[1].startswith(f"{GOOD},0,Adelie,0.99")
    assert done.stderr.startswith(b"stdin:3: column \"bill_length_mm\": 'x' is not a number\nstdin: 1 rows answered")


def test_stdin_is_read_in_process(bundles, capfd):
    reader, writer = os.pipe()
    os.write(writer, f"{HEADER}\n{GOOD}\n".encode())
    os.close(writer)
    kept = os.dup(0)
    os.dup2(reader, 0)
    try:
        status = predict.main([str(bundles["penguins"]), "-", "-"])
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reader)

    assert status == 0
    assert capfd.readouterr().out.splitlines()[1].startswith(f"{GOOD},0,Adelie,")


def test_stdout_gets_rows_before_the_input_ends(bundles):
    process = subprocess.Popen(
        [*COMMAND, str(bundles["penguins"]), "-", "-"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    has_answers = threading.Event()

    def feed():
        process.stdin.write(f"{HEADER}\n".encode() + f"{GOOD}\n".encode() * 2 * predict.CHUNK_ROWS)
        process.stdin.flush()
        has_answers.wait()
        process.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    header, first = process.stdout.readline(), process.stdout.readline()
    has_answers.set()
    rest = process.stdout.readlines()
    feeder.join()
    process.stdout.close()

    assert process.wait() == 0
    assert header.decode().startswith(HEADER)
    assert {first, *rest} == {first}
    assert len(rest) == 2 * predict.CHUNK_ROWS - 1


def test_a_reader_that_leaves_is_no_traceback(bundles, many):
    process = subprocess.Popen(
        [*COMMAND, str(bundles["penguins"]), str(many(20_000)), "-"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    with process:
        errors = process.stderr.read()

    assert errors == b"error: the output cannot be written: Broken pipe\n"
    assert process.returncode == 2


def test_a_terminal_shows_how_far_it_is(bundles, many, tmp_path):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    arguments = [str(bundles["penguins"]), str(many(20_000)), str(tmp_path / "out.csv")]
    process = subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:  # Linux says EIO where the other end is closed
        pass
    os.close(ours)

    assert process.wait() == 0
    assert b"100%" in shown
    assert b"B/s" in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_stopped_run_leaves_no_output(number, bundles, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    process = subprocess.Popen(
        [*COMMAND, str(bundles["penguins"]), "-", str(folder / "out.csv"), "--bad-rows", str(folder / "bad.csv")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell that runs the tests in the background lets its children ignore the interrupt
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        process.stdin.write(f"{HEADER}\n".encode() + b"x,18.7,181,3750\n" * 2 * predict.CHUNK_ROWS)
        process.stdin.flush()
        process.stderr.readline()  # the first chunk has been judged
        before = os.listdir(folder)
        process.send_signal(number)
        process.wait()
        errors = process.stderr.read()

    assert len(before) == 2
    assert not {"out.csv", "bad.csv"} & set(os.listdir(folder))
    assert b"Traceback" not in errors
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number
        assert os.listdir(folder) == []


def test_an_interrupt_is_said_in_one_line(run, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(predict.sys.stderr, "isatty", interrupt)

    assert run(f"{HEADER}\n{GOOD}\n") == (130, None, "error: interrupted, no file was written\n")


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), SystemExit(143), ValueError()], ids=lambda end: type(end).__name__
)
def test_a_signal_while_the_bar_takes_its_lock_ends_as_any_other(run, monkeypatch, end):
    def take_lock():
        try:
            raise end
        finally:
            raise RuntimeError("cannot release un-acquired lock")

    monkeypatch.setattr(predict.sys.stderr, "isatty", take_lock)

    if isinstance(end, KeyboardInterrupt):
        assert run(f"{HEADER}\n{GOOD}\n") == (130, None, "error: interrupted, no file was written\n")
    else:
        with pytest.raises(SystemExit if isinstance(end, SystemExit) else RuntimeError) as caught:
            run(f"{HEADER}\n{GOOD}\n")
        assert caught.value is end or isinstance(caught.value.__context__, ValueError)


def test_memory_does_not_grow_with_the_file(bundles, many, tmp_path):
    program = (
        "import sys; from model import predict; status = predict.main(sys.argv[1:]); "
        "print(*[l for l in open('/proc/self/status') if l.startswith('VmHWM')], status)"
    )

    def peak_kilobytes(count):
        arguments = [str(bundles["penguins"]), str(many(count)), str(tmp_path / "out.csv")]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1])

    small, large = peak_kilobytes(20_000), peak_kilobytes(200_000)

    print(f"peak memory: 20,000 rows {small / 1024:.1f} MiB, 200,000 rows {large / 1024:.1f} MiB")
    assert large - small < 6 * 1024


@pytest.mark.parametrize(
    ("choice", "expected"),
    [((), set()), (("--engine", "onnx"), {"onnxruntime"})],
    ids=["tables", "onnx"],
)
def test_nothing_that_trains_or_is_not_asked_for_is_imported(bundles, tmp_path, choice, expected):
    program = (
        "import json, sys; from model import predict; predict.main(sys.argv[1:]); "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    arguments = [str(bundles["penguins"]), str(ROOT / "model/data/penguins.csv"), str(tmp_path / "out.csv"), *choice]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert (tmp_path / "out.csv").is_file()
    loaded = set(json.loads(done.stdout))
    watched = {"sklearn", "pint", "onnxmltools", "skl2onnx", "onnx", "scipy", "pandas", "xgboost", "onnxruntime"}
    assert expected == loaded & watched
