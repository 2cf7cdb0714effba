"""Compare sentences with all-MiniLM-L6-v2, in numpy alone, from a folder that holds the model.

    python script/_demo_embed.py FOLDER

The whole network is computed, but of the table of 30,522 words only the rows of the words at hand are read: half of the
model's bytes are never touched, and through a mount never fetched.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

PAIRS = (
    ("The cat sits outside", "The dog plays in the garden", 0.2838),
    ("A man is playing guitar", "A woman watches TV", -0.0327),
    ("The new movie is awesome", "The new movie is so great", 0.8939),
)
"""Two sentences, and how alike they are as the model's documentation has it."""

_erf = np.vectorize(math.erf)


class Model:
    """A BERT encoder with mean pooling."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.words = {word: number for number, word in enumerate((folder / "vocab.txt").read_text().splitlines())}
        self.weights = safe_open(folder / "model.safetensors", framework="np")

    def tokens(self, sentence: str) -> list[int]:
        """WordPiece: each word in the longest pieces that the vocabulary has."""
        numbers = [self.words["[CLS]"]]
        for word in re.findall(r"\w+|[^\w\s]", sentence.lower()):
            start = 0
            while start < len(word):
                pieces = (("##" if start else "") + word[start:end] for end in range(len(word), start, -1))
                piece = next((piece for piece in pieces if piece in self.words), "[UNK]")
                numbers.append(self.words[piece])
                start = len(word) if piece == "[UNK]" else start + len(piece.removeprefix("##"))
        return [*numbers, self.words["[SEP]"]]

    def embed(self, sentence: str) -> np.ndarray:
        """A vector of length 1."""
        tokens = self.tokens(sentence)
        rows = self.weights.get_slice("embeddings.word_embeddings.weight")
        state = np.concatenate([rows[token : token + 1] for token in tokens])
        state = state + self.weights.get_slice("embeddings.position_embeddings.weight")[: len(tokens)]
        state = self._norm(state + self._get("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
        for layer in range(self.config["num_hidden_layers"]):
            state = self._layer(state, f"encoder.layer.{layer}.")
        mean = state.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _layer(self, state: np.ndarray, prefix: str) -> np.ndarray:
        heads = self.config["num_attention_heads"]
        query, key, value = (
            self._linear(state, f"{prefix}attention.self.{name}").reshape(len(state), heads, -1).swapaxes(0, 1)
            for name in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True) @ value).swapaxes(0, 1).reshape(state.shape)
        state = self._norm(
            state + self._linear(mixed, f"{prefix}attention.output.dense"), f"{prefix}attention.output.LayerNorm"
        )
        inner = _gelu(self._linear(state, f"{prefix}intermediate.dense"))
        return self._norm(state + self._linear(inner, f"{prefix}output.dense"), f"{prefix}output.LayerNorm")

    def _linear(self, state: np.ndarray, name: str) -> np.ndarray:
        return state @ self._get(f"{name}.weight").T + self._get(f"{name}.bias")

    def _norm(self, state: np.ndarray, name: str) -> np.ndarray:
        centred = state - state.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.config["layer_norm_eps"])
        return centred / deviation * self._get(f"{name}.weight") + self._get(f"{name}.bias")

    def _get(self, name: str) -> np.ndarray:
        return self.weights.get_tensor(name)


def _gelu(values: np.ndarray) -> np.ndarray:
    return (values * (1 + _erf(values / np.sqrt(2))) / 2).astype(np.float32)


def main() -> None:
    """Print how alike the sentences of each pair are; exit 1 if that is not what is documented."""
    model = Model(Path(sys.argv[1]))
    print("computed  documented")
    for one, other, documented in PAIRS:
        computed = float(model.embed(one) @ model.embed(other))
        print(f"{computed:8.4f}  {documented:10.4f}  {one} | {other}")
        if abs(computed - documented) > 0.001:
            sys.exit("these are not the bytes of the model that was published")


if __name__ == "__main__":
    main()
