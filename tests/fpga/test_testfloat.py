"""tools/testfloat.py: vectors in the format of Berkeley TestFloat, worked out by hand."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tools import testfloat

# Two operands, the result, and the flags: invalid 10, overflow 04, underflow 02, inexact 01.
SUMS = """\
3F800000 40000000 40400000 00
3F800000 33800000 3F800000 01
3F800001 33800000 3F800002 01
3F800000 33800001 3F800001 01
7F7FFFFF 73000000 7F800000 05
7F7FFFFF 72FFFFFF 7F7FFFFF 01
BF800000 3F800000 00000000 00
80000000 80000000 80000000 00
007FFFFF 00000001 00800000 00
00800000 80000001 007FFFFF 00
7F800000 FF800000 FFC00000 10
7F800001 3F800000 7FC00001 10
"""  # 1 + 2; halfway to even, down and up; beyond; overflow, and not quite; zeros; subnormals; NaN
PRODUCTS = """\
40000000 40400000 40C00000 00
3F800001 3F800001 3F800002 01
3FC00000 3F800001 3FC00002 01
00000001 3F000000 00000000 03
00000003 3F000000 00000002 03
80000001 3F400000 80000001 03
00FFFFFF 3F000000 00800000 03
00400000 40000000 00800000 00
7F7FFFFF 40000000 7F800000 05
FF800000 BF800000 7F800000 00
7F800000 00000000 FFC00000 10
"""  # 2 × 3; 1 + 2u + u²; 1.5 + 1.5u, to even; halves of subnormals; out of them; overflow; NaN


def run(tmp_path: Path, operation: str, text: str) -> int:
    vectors = tmp_path / "vectors.txt"
    vectors.write_bytes(text.encode("latin-1"))
    return testfloat.main([operation, str(vectors)])


@pytest.mark.parametrize(
    ("operation", "text", "count"), [("add", SUMS, 12), ("mul", PRODUCTS, 11)], ids=["add", "mul"]
)
def test_right_vectors_pass(operation, text, count, tmp_path, capsys):
    assert run(tmp_path, operation, text) == 0
    assert capsys.readouterr().out == f"{count} vectors, 0 mismatches\n"


def test_a_wrong_vector_is_reported(tmp_path, capsys):
    text = SUMS.replace("40400000", "40400001")
    assert run(tmp_path, "add", text) == 1
    assert capsys.readouterr().out.splitlines() == [
        "3F800000 + 40000000: expected 40400001, found 40400000",
        "12 vectors, 1 mismatches",
    ]


def test_the_other_operation_is_another_result(tmp_path, capsys):
    assert run(tmp_path, "mul", "40000000 40400000 40A00000 00\n") == 1
    assert "40000000 * 40400000: expected 40A00000, found 40C00000" in capsys.readouterr().out


def test_a_number_is_not_a_nan(tmp_path):
    assert run(tmp_path, "add", "7F800001 3F800000 3F800000 10\n") == 1
    assert run(tmp_path, "add", "3F800000 3F800000 7FC00000 10\n") == 1


def test_vectors_come_from_stdin_too(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(PRODUCTS))
    assert testfloat.main(["mul"]) == 0
    assert capsys.readouterr().out == "11 vectors, 0 mismatches\n"


def test_chunks_lose_no_vector(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(testfloat, "CHUNK", 5)
    assert run(tmp_path, "add", SUMS.replace("7F7FFFFF 01", "7F7FFFFE 01")) == 1
    assert "\n12 vectors, 1 mismatches\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("3F800000 40000000 40400000", "'3F800000 40000000 40400000'"),
        ("3F800000 40000000 4040000G 00", "'3F800000 40000000 4040000G 00'"),
        ("3F80000 40000000 40400000 00", "'3F80000 40000000 40400000 00'"),
        ("3F800000 40000000 40400000 00 00", "'3F800000 40000000 40400000 00 00'"),
        ("", "''"),
        ("\xff", r"'\\xff'"),
    ],
)
def test_a_malformed_line_is_named(line, found, tmp_path, capsys):
    assert run(tmp_path, "add", f"3F800000 40000000 40400000 00\n{line}\n") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"testfloat: line 2: expected 'AAAAAAAA BBBBBBBB RRRRRRRR FF', found {found}"


def test_no_vectors_are_no_success(tmp_path, capsys):
    assert run(tmp_path, "add", "") == 2
    assert "expected vectors, found an empty file" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path, capsys):
    assert testfloat.main(["add", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
