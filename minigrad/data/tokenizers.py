"""From text to numbers and back: one number a character, or one a byte.

A tokenizer is its vocabulary. It is saved as JSON beside the weights that were trained with it, because the
same numbers mean other characters under another one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..tensor import Tensor


class CharTokenizer:
    """One number a character: its place in the sorted vocabulary, the distinct characters of `text`.

    >>> t = CharTokenizer("hello world")
    >>> t.vocab_size, t.encode("hold").tolist(), t.decode([3, 2, 4])
    (8, [3, 5, 4, 1], 'hel')
    """

    kind = "characters"

    def __init__(self, text: str):
        if not text:
            raise ValueError(
                "CharTokenizer: an empty vocabulary; pass the text whose characters it is made of"
            )
        self.characters = "".join(sorted(set(text)))
        self._points = _code_points(self.characters)

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """str -> int64 (T,). ValueError names a character that is not in the vocabulary."""
        points = _code_points(text)
        tokens = np.minimum(np.searchsorted(self._points, points), self.vocab_size - 1)
        if (unknown := self._points[tokens] != points).any():
            where = int(unknown.argmax())
            raise ValueError(
                f"CharTokenizer: character {text[where]!r} (U+{ord(text[where]):04X}, at position {where}) "
                f"is not among the {self.vocab_size} of the vocabulary; leave it out or use ByteTokenizer"
            )
        return tokens.astype(np.int64, copy=False)

    def decode(self, tokens: Any) -> str:
        """Numbers (array, Tensor, list) -> str. ValueError for a number that is no token."""
        points = self._points[_checked("CharTokenizer", tokens, self.vocab_size)]
        return points.tobytes().decode("utf-32-le", "surrogatepass")

    def to_json(self) -> str:
        """The vocabulary as JSON; tokenizer_from_json() makes an equal tokenizer of it."""
        return json.dumps({"tokenizer": self.kind, "characters": list(self.characters)})

    def save(self, path: str | os.PathLike) -> None:
        """Writes to_json() to a file, in one piece."""
        _write(path, self.to_json())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharTokenizer) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"CharTokenizer({self.characters!r})"


class ByteTokenizer:
    """One number a byte of the text's UTF-8: 256 of them, whatever the text.

    >>> ByteTokenizer().encode("né").tolist(), ByteTokenizer().decode([110, 195, 169])
    ([110, 195, 169], 'né')
    """

    kind, vocab_size = "bytes", 256

    def encode(self, text: str | bytes) -> np.ndarray:
        """str -> int64 (T,), a number a byte; bytes are taken as they are."""
        if not isinstance(text, (str, bytes)):
            raise TypeError(f"ByteTokenizer: a {type(text).__name__}; it takes str or bytes")
        data = text.encode("utf-8") if isinstance(text, str) else text
        return np.frombuffer(data, np.uint8).astype(np.int64)

    def decode(self, tokens: Any, errors: str = "replace") -> str:
        """Numbers -> str; what is no UTF-8, as in a sample, becomes U+FFFD; errors="strict" raises."""
        data = _checked("ByteTokenizer", tokens, self.vocab_size).astype(np.uint8).tobytes()
        return data.decode("utf-8", errors)

    def to_json(self) -> str:
        """The kind of tokenizer as JSON; there is no vocabulary to keep."""
        return json.dumps({"tokenizer": self.kind})

    def save(self, path: str | os.PathLike) -> None:
        """Writes to_json() to a file, in one piece."""
        _write(path, self.to_json())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByteTokenizer)

    def __hash__(self) -> int:
        return hash(self.kind)

    def __repr__(self) -> str:
        return "ByteTokenizer()"


def tokenizer_from_json(text: str) -> CharTokenizer | ByteTokenizer:
    """The tokenizer that gave this to_json(). ValueError for anything else."""
    try:
        stated = json.loads(text)
        kind, characters = stated["tokenizer"], stated.get("characters", [])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"tokenizer_from_json: no tokenizer's JSON ({error!r}): {text[:60]!r}") from None
    if kind == ByteTokenizer.kind:
        return ByteTokenizer()
    if kind != CharTokenizer.kind:
        raise ValueError(
            f"tokenizer_from_json: unknown tokenizer {kind!r}; there are {CharTokenizer.kind!r} and "
            f"{ByteTokenizer.kind!r}"
        )
    if not isinstance(characters, list) or not all(isinstance(c, str) for c in characters):
        raise ValueError("tokenizer_from_json: the characters are no list of strings: an edited file")
    made = CharTokenizer("".join(characters))
    if list(made.characters) != characters:
        raise ValueError("tokenizer_from_json: the characters are not distinct and in order: an edited file")
    return made


def load_tokenizer(path: str | os.PathLike) -> CharTokenizer | ByteTokenizer:
    """The tokenizer that was saved to a file."""
    try:
        return tokenizer_from_json(Path(path).read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"load_tokenizer: {path}: {error}") from None


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _checked(name: str, tokens: Any, size: int) -> np.ndarray:
    """Tokens of any kind as a flat array of integers below `size`."""
    array = tokens.detach().cpu().numpy() if isinstance(tokens, Tensor) else np.asarray(tokens)
    array = array.reshape(-1)
    if not array.size:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: tokens are integers; got {array.dtype}")
    if array.min() < 0 or array.max() >= size:
        bad = int(array.min() if array.min() < 0 else array.max())
        raise ValueError(f"{name}: token {bad} is not in 0..{size - 1}")
    return array


def _write(path: str | os.PathLike, text: str) -> None:
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, "utf-8")
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
