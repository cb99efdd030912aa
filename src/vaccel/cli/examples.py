"""The article's programs: what an application of vaccel looks like.

None of them says where its operations run. That is configuration: VACCEL_PLUGINS=noop, cpu, or rpc
together with VACCEL_RPC_ADDRESS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import vaccel
from vaccel.cli import pictures, program


def classify_image(image: bytes, iterations: int, model: str | None) -> None:
    with vaccel.Session() as session, ExitStack() as stack:
        print(f"Initialized session with id: {session.id}")
        print(f"Image size: {len(image)}B")
        if model is not None:
            stack.enter_context(pictures.model_of(model)).register(session)
        for _ in range(iterations):
            tags, _ = session.classify(image)
            print(f"classification tags: {tags}")


def add_vectors() -> None:
    a = np.array([5.0, 1.0, 2.1, 1.2, 5.2], np.float32)
    b = np.array([-2.2, 1.1, 6.4, 2.3, 6.1], np.float32)
    with vaccel.Session() as session:
        print(f"Initialized session with id: {session.id}")
        for value in session.fpga_vadd(a, b):
            print(f"{value:.6f}")


def copy_array() -> None:
    a = np.array([12, 15, 12, 15, 12, 11], np.int32)
    with vaccel.Session() as session:
        print(f"Initialized session with id: {session.id}")
        for value in session.fpga_arraycopy(a):
            print(value)


def add_and_multiply() -> None:
    a = np.array([[1, 2], [3, 4]], np.float32)
    b = np.array([[2, 3], [4, 5]], np.float32)
    with vaccel.Session() as session:
        print(f"Initialized session with id: {session.id}")
        sums, products = session.fpga_parallel(a, b)
        for value in [*sums.flat, *products.flat]:
            print(f"{value:.6f}")


# -- command lines -----------------------------------------------------------------------------

_EPILOG = """\
examples:
  VACCEL_PLUGINS=noop VACCEL_LOG_LEVEL=4 {call}
      try the way to a plugin: dumps the arguments, answers a place-holder
  VACCEL_PLUGINS=rpc VACCEL_RPC_ADDRESS=tcp://192.168.4.21:8192 {call}
      let the agent there do the work
"""


def classify(argv: Sequence[str] | None = None) -> int:
    name = "classify"
    parser = _parser(name, "Say what a picture shows.", " picture.jpg 1")
    parser.add_argument("image", metavar="IMAGE", help="a file with an encoded picture")
    parser.add_argument("iterations", metavar="N", type=int, help="how often to classify it")
    parser.add_argument("model", metavar="MODEL", nargs="?", help="the file with the model to use")
    args = parser.parse_args(argv)
    if args.iterations < 1:
        parser.error(f"N: expected a number from 1, found {args.iterations}")

    def work() -> None:
        classify_image(Path(args.image).read_bytes(), args.iterations, args.model)

    return program.run(name, work)


def vector_add(argv: Sequence[str] | None = None) -> int:
    return _without_arguments("pynq_vector_add_generic", "Add two vectors.", add_vectors, argv)


def array_copy(argv: Sequence[str] | None = None) -> int:
    return _without_arguments("pynq_array_copy_generic", "Copy an array.", copy_array, argv)


def parallel(argv: Sequence[str] | None = None) -> int:
    summary = "Add and multiply two matrices, element by element, in one pass."
    return _without_arguments("pynq_parallel_generic", summary, add_and_multiply, argv)


def _without_arguments(
    name: str, summary: str, work: Callable[[], None], argv: Sequence[str] | None
) -> int:
    _parser(name, summary).parse_args(argv)
    return program.run(name, work)


def _parser(name: str, summary: str, arguments: str = "") -> program.Parser:
    epilog = _EPILOG.format(call=name + arguments)
    return program.Parser(prog=name, description=summary, epilog=epilog)


PROGRAMS = {
    "classify": classify,
    "pynq_vector_add_generic": vector_add,
    "pynq_array_copy_generic": array_copy,
    "pynq_parallel_generic": parallel,
}


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m vaccel.cli.examples PROGRAM …` is PROGRAM, where scripts are not installed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = program.Parser(prog="python -m vaccel.cli.examples", description=__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    return PROGRAMS[parser.parse_args(arguments[:1]).program](arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
