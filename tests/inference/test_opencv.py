"""OpenCV's functions by name, here and at an agent, give what OpenCV itself gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.inference.pairs import at_once, pair
from vaccel import Arg, ArgType, Session
from vaccel.error import FFIError, InvalidArgument
from vaccel.ops import opencv as cv
from vaccel.ops.opencv import BY_NAME, FUNCTIONS
from vaccel.ops.parameters import REQUIRED
from vaccel.plugins.opencv import _refused

cv2: Any = pytest.importorskip("cv2", reason="the extra vaccel[opencv] is not installed")

Sessions = tuple[Session, Session]
RNG = np.random.default_rng(11)
COLOR = RNG.integers(0, 256, (37, 53, 3), np.uint8)
GREY = RNG.integers(0, 256, (37, 53), np.uint8)
ALPHA = RNG.integers(0, 256, (37, 53, 4), np.uint8)
TURN = np.array([[0.8, -0.3, 4.0], [0.3, 0.8, -2.5]])


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with pair("opencv") as both:
        yield both


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, float):
        return bool(found == expected)
    equal = np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f")
    return found.dtype == expected.dtype and equal


# name of the function, arguments, what OpenCV does with them
CASES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Callable[[], Any]]] = {
    "resize": ("resize", (COLOR, 20, 10), {}, lambda: cv2.resize(COLOR, (20, 10))),
    "resize, larger": (
        "resize",
        (GREY,),
        {"width": 200, "height": 90, "interpolation": "cubic"},
        lambda: cv2.resize(GREY, (200, 90), interpolation=cv2.INTER_CUBIC),
    ),
    "resize, four channels": (
        "resize",
        (ALPHA, 7, 9, "area"),
        {},
        lambda: cv2.resize(ALPHA, (7, 9), interpolation=cv2.INTER_AREA),
    ),
    "blur": ("GaussianBlur", (COLOR, 5, 3), {}, lambda: cv2.GaussianBlur(COLOR, (5, 3), 0)),
    "blur, all arguments": (
        "GaussianBlur",
        (GREY, 7, 7),
        {"sigma_x": 1.5, "sigma_y": 0.7, "border": "replicate"},
        lambda: cv2.GaussianBlur(GREY, (7, 7), 1.5, sigmaY=0.7, borderType=cv2.BORDER_REPLICATE),
    ),
    "edges": ("Canny", (GREY, 50, 150), {}, lambda: cv2.Canny(GREY, 50, 150)),
    "edges of colours": (
        "Canny",
        (COLOR, 50, 150),
        {"aperture_size": 5, "l2_gradient": True},
        lambda: cv2.Canny(COLOR, 50, 150, apertureSize=5, L2gradient=True),
    ),
    "threshold": (
        "threshold",
        (COLOR, 99.5),
        {"type": "tozero_inv"},
        lambda: cv2.threshold(COLOR, 99.5, 255, cv2.THRESH_TOZERO_INV),
    ),
    "threshold, automatic": (
        "threshold",
        (GREY, 0, 200),
        {"automatic": "otsu"},
        lambda: cv2.threshold(GREY, 0, 200, cv2.THRESH_BINARY | cv2.THRESH_OTSU),
    ),
    "warp": (
        "warpAffine",
        (COLOR, TURN, 60, 30),
        {},
        lambda: cv2.warpAffine(COLOR, TURN, (60, 30)),
    ),
    "warp, all arguments": (
        "warpAffine",
        (ALPHA, TURN.tolist(), 60, 30, "nearest"),
        {"inverse": True, "border": "constant", "border_value": 77},
        lambda: cv2.warpAffine(
            ALPHA,
            TURN,
            (60, 30),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderValue=(77,) * 4,
        ),
    ),
    "match": (
        "matchTemplate",
        (COLOR, COLOR[3:13, 4:16]),
        {},
        lambda: cv2.matchTemplate(COLOR, COLOR[3:13, 4:16], cv2.TM_CCOEFF_NORMED),
    ),
    "match, whole": (
        "matchTemplate",
        (GREY, GREY, "sqdiff"),
        {},
        lambda: cv2.matchTemplate(GREY, GREY, cv2.TM_SQDIFF),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_results_are_those_of_opencv(case: str, sessions: Sessions) -> None:
    function, args, kwargs, expected = CASES[case]
    for session in sessions:
        assert same(session.opencv(function, *args, **kwargs), expected())


def test_every_function_has_a_case() -> None:
    assert {"cvtColor", *(case[0] for case in CASES.values())} == set(BY_NAME)


@pytest.mark.parametrize("code", cv.COLORS)
def test_every_conversion_of_colours(code: str, sessions: Sessions) -> None:
    before = cv._CHANNELS[cv.COLORS[code]][0]
    image = {1: GREY, 3: COLOR, 4: ALPHA}[before]
    for session in sessions:
        expected = cv2.cvtColor(image, getattr(cv2, f"COLOR_{code}"))
        assert same(session.opencv("cvtColor", image, code), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("function", ["resize", "GaussianBlur", "warpAffine", "threshold"])
def test_every_element_type(function: str, dtype: str, sessions: Sessions) -> None:
    image = COLOR.astype(dtype)
    args: dict[str, tuple[Any, ...]] = {
        "resize": (20, 10),
        "GaussianBlur": (3, 3),
        "warpAffine": (TURN, 20, 20),
        "threshold": (100,),
    }
    expected = {
        "resize": lambda: cv2.resize(image, (20, 10)),
        "GaussianBlur": lambda: cv2.GaussianBlur(image, (3, 3), 0),
        "warpAffine": lambda: cv2.warpAffine(image, TURN, (20, 20)),
        "threshold": lambda: cv2.threshold(image, 100, 255, cv2.THRESH_BINARY),
    }
    for session in sessions:
        assert same(session.opencv(function, image, *args[function]), expected[function]())


@pytest.mark.parametrize(
    "form",
    [
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        np.asfortranarray,
        lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
        lambda a: a.astype(a.dtype.newbyteorder("S")),
        lambda a: np.ndarray(a.shape, a.dtype, bytearray(1) + a.tobytes(), offset=1),
    ],
    ids=["strided", "column-major", "read-only", "byte-swapped", "unaligned"],
)
def test_images_in_any_memory(form: Callable[[Any], Any], sessions: Sessions) -> None:
    image = COLOR.astype(np.uint16)
    for session in sessions:
        found = session.opencv("resize", form(image), 30, 20)
        assert same(found, cv2.resize(image, (30, 20)))


def test_one_channel_may_be_a_dimension_of_its_own(sessions: Sessions) -> None:
    column = GREY[:, :, np.newaxis]
    for session in sessions:
        assert session.opencv("resize", column, 20, 10).shape == (10, 20, 1)
        found = session.opencv("cvtColor", column, "GRAY2BGR")
        assert same(found, cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR))


def test_results_are_computed_where_they_go(sessions: Sessions) -> None:
    here, _ = sessions
    out = np.zeros((10, 20, 3), np.uint8)
    here.opencv(1, arguments("resize", COLOR, 20, 10), [Arg(out, ArgType.UINT8_ARRAY)])
    assert same(out, cv2.resize(COLOR, (20, 10)))


def test_arguments_stay_as_they_are(sessions: Sessions) -> None:
    for session in sessions:
        image = COLOR.copy()
        session.opencv("GaussianBlur", image, 3, 3)
        assert same(image, COLOR)


def test_threads_call_at_once(sessions: Sessions) -> None:
    expected = {size: cv2.resize(COLOR, (size, size)) for size in range(10, 18)}
    for session in sessions:

        def work(i: int, session: Session = session) -> None:
            for _ in range(10):
                assert same(session.opencv("resize", COLOR, 10 + i, 10 + i), expected[10 + i])

        at_once(work)


# -- the table ---------------------------------------------------------------------------------


def test_codes_names_and_defaults_are_in_order() -> None:
    assert [function.code for function in FUNCTIONS] == list(range(1, len(FUNCTIONS) + 1))
    for function in FUNCTIONS:
        given = [p.default is REQUIRED for p in function.parameters]
        assert given == sorted(given, reverse=True), function.name
        for parameter in function.parameters:
            if parameter.default is not REQUIRED:
                parameter.check(parameter.default)


@pytest.mark.parametrize(
    ("table", "prefix"),
    [
        (cv.INTERPOLATIONS, "INTER_"),
        (cv.BORDERS, "BORDER_"),
        (cv.THRESHOLDS, "THRESH_"),
        (cv.MATCHES, "TM_"),
        ({k: v for k, v in cv.AUTOMATIC.items() if v}, "THRESH_"),
    ],
)
def test_numbers_are_those_of_opencv(table: dict[str, int], prefix: str) -> None:
    assert table == {name: getattr(cv2, prefix + name.upper()) for name in table}


# -- errors ------------------------------------------------------------------------------------

WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "a function": (("rezise", COLOR), r"expected a function of resize, .*found 'rezise'"),
    "too few": (("resize", COLOR, 3), r"resize: missing .*'height'; expected resize\(image, wid"),
    "too many": (("Canny", GREY, 1, 2, 3, 0, 9), r"Canny: too many .*; expected Canny\(image, "),
    "a dtype": (("Canny", GREY.astype("f4"), 1, 2), "Canny: image: .* of uint8, found float32"),
    "no image": (("resize", "x", 1, 1), "resize: image: expected an array or bytes, found str"),
    "a row": (("resize", GREY[0], 1, 1), r"resize: image: .*\(height, .*found shape \(53,\)"),
    "no pixels": (("resize", GREY[:0], 1, 1), r"resize: image: .*, found shape \(0, 53\)"),
    "five channels": (("resize", np.zeros((2, 2, 5), "u1"), 1, 1), r"found shape \(2, 2, 5\)"),
    "zero": (("resize", GREY, 0, 1), "resize: width: expected a number from 1 to 32767, found 0"),
    "a fraction": (("resize", GREY, 1.5, 1), "resize: width: expected a whole number, found 1.5"),
    "a huge size": (("resize", ALPHA, 32767, 32767), "at most 1073741824 bytes, found 4294705156"),
    "a choice": (("resize", GREY, 1, 1, "best"), "interpolation: .* nearest, .*found 'best'"),
    "a number for it": (("resize", GREY, 1, 1, 99), "interpolation: expected one of.*found 99"),
    "a list for it": (("resize", GREY, 1, 1, [1]), r"interpolation: expected one of.*found \[1\]"),
    "a text": (("Canny", GREY, "low", 2), "Canny: threshold1: expected a number, found 'low'"),
    "channels": (("cvtColor", GREY, "BGR2RGB"), "image: expected 3 channels for BGR2RGB, found 1"),
    "a matrix": (("warpAffine", GREY, np.eye(3), 2, 2), r"matrix: .*\(2, 3\), found shape \(3, 3"),
    "rows": (("warpAffine", GREY, [[1, 2], [3]], 2, 2), r"matrix: expected a matrix of shape"),
    "a large template": (("matchTemplate", GREY[:9], GREY), r"template: expected at most the im"),
    "another template": (("matchTemplate", GREY, COLOR), "template: expected 1 channels of uint8"),
    "an even kernel": (("GaussianBlur", GREY, 3, 4), r"kernel_height: .* odd number .*, found 4"),
    "no kernel": (("GaussianBlur", GREY, 3, 0), "kernel_height: .*, or 0 with a sigma .*, found 0"),
    "a sigma": (("GaussianBlur", GREY, 3, 3, -1), "sigma_x: .*from 0 to 4000, found -1"),
    "a border": (("GaussianBlur", GREY, 3, 3, 0, 0, "wrap"), "border: .*one of.*found 'wrap'"),
    "an aperture": (("Canny", GREY, 1, 2, 4), "aperture_size: .*odd .* from 3 to 7, found 4"),
    "a warp": (("warpAffine", GREY, TURN, 9, 9, "nearest_exact"), "interpolation: expected one of"),
    "a histogram": (("threshold", COLOR, 0, 9, "trunc", "otsu"), "1 channel of .*otsu, found 3 ch"),
    "elements": (("cvtColor", COLOR.astype("u2"), "BGR2HSV"), "float32 for BGR2HSV, found uint16"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_errors_name_function_argument_and_both_sides(fault: str, sessions: Sessions) -> None:
    args, message = WRONG[fault]
    told = set()
    for session in sessions:
        with pytest.raises(InvalidArgument, match=f"^opencv.*{message}") as caught:
            session.opencv(*args)
        told.add(caught.value.message)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ksize.width > 0 && ksize.width % 2 == 1", "ksize.width > 0 && ksize.width % 2 == 1"),
        ("> Depth:\n>     'depth > 1'\n> where\n", "Depth: 'depth > 1' where"),
    ],
)
def test_what_opencv_says_is_passed_on_whole(words: str, told: str) -> None:
    error = cv2.error()
    error.err = words
    refused = _refused(BY_NAME["resize"], error)
    assert str(refused) == f"opencv resize: OpenCV refuses these arguments: {told}"


def arguments(function: str, *args: Any) -> list[Arg]:
    """The read arguments of a call, as they travel."""
    found = BY_NAME[function]
    values = found.bind(args, {})
    return [arg for p in found.parameters for arg in p.encode(values[p.name])]


def room(*shape: int) -> Arg:
    return Arg(np.zeros(shape, np.uint8), ArgType.UINT8_ARRAY)


def test_a_call_by_code_is_checked_where_it_is_served(sessions: Sessions) -> None:
    read = arguments("resize", GREY, 20, 10)
    wrong: dict[str, tuple[int, list[Arg], list[Arg]]] = {
        r"function: expected one of 1 \(resize\), .*found 0": (0, read, [room(10, 20)]),
        r"found 255": (255, read, [room(10, 20)]),
        r"resize: expected 5 read arguments .*found 4": (1, read[:-1], [room(10, 20)]),
        r"resize: expected 5 read arguments .*found 0": (1, [], []),
        r"resize: expected 1 write arguments, found 0": (1, read, []),
        r"write argument 0: expected UINT8_ARRAY of 200 bytes.*found UINT8_ARRAY of 199": (
            1,
            read,
            [room(199)],
        ),
        r"found FLOAT32_ARRAY of 200 bytes": (
            1,
            read,
            [Arg(np.zeros(50, np.float32), ArgType.FLOAT32_ARRAY)],
        ),
        r"resize: width: expected INT32, found INT64": (
            1,
            [*read[:2], Arg(20, ArgType.INT64), *read[3:]],
            [room(10, 20)],
        ),
        r"resize: image: expected INT64_ARRAY, found UINT8_ARRAY": (
            1,
            [read[1], *read[1:]],
            [room(10, 20)],
        ),
        r"expected UINT8_ARRAY or .*, found INT64_ARRAY": (
            1,
            [read[0], read[0], *read[2:]],
            [room(10, 20)],
        ),
    }
    for session, (message, args) in itertools.product(sessions, wrong.items()):
        with pytest.raises(InvalidArgument, match=f"opencv.*{message}"):
            session.opencv(*args)


@pytest.mark.parametrize(
    "shape", [[], [5], [37, 52], [37, 53, 1, 1], [-37, -53], [2**62, 2**62], [0, 0], [-1, 37, -53]]
)
def test_lying_shapes_are_refused(shape: list[int], sessions: Sessions) -> None:
    read = arguments("resize", GREY, 20, 10)
    read[0] = Arg(np.array(shape, np.int64), ArgType.INT64_ARRAY)
    for session in sessions:
        with pytest.raises(FFIError, match="resize: image: expected an image of shape"):
            session.opencv(1, read, [room(10, 20)])
