"""Text from a trained transformer.

python -m models.generate runs/transformer-shakespeare-adamw-0/best.safetensors --prompt ROMEO:
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import minigrad as mg
from minigrad import checkpoint, training
from minigrad.data import tokenizer_from_json

from .transformer import GPT, GPTConfig


def load(path: str, device: str = "cpu") -> tuple[Any, Any]:
    """(model, tokenizer) of best.safetensors, or of a checkpoint of train.py; CheckpointError for another."""
    tensors, meta = training.weights(path)
    if "gpt" not in meta:
        raise checkpoint.CheckpointError(f"{path}: holds a {meta.get('model')!r}, not a transformer")
    model = GPT(GPTConfig(**meta["gpt"]))
    model.load_state_dict(tensors)
    return model.to(device).eval(), tokenizer_from_json(meta["tokenizer"])


def main(argv: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(prog="python -m models.generate", description="Text from a transformer.")
    add = parser.add_argument
    add("checkpoint", help="best.safetensors of a transformer's run")
    add("--prompt", default="\n", help="how the text begins (default: a new line)")
    add("--count", type=int, default=500, metavar="N", help="characters to add (default: 500)")
    add("--temperature", type=float, default=0.8, metavar="X", help="0 takes the likeliest (default: 0.8)")
    add("--top-k", type=int, metavar="K", help="draw from the K likeliest only")
    add("--top-p", type=float, metavar="P", help="draw from the fewest that hold P of the probability")
    add("--seed", type=int, default=0, metavar="N", help="another seed, another text (default: 0)")
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    a = parser.parse_args(argv)
    mg.manual_seed(a.seed)
    try:
        model, tokenizer = load(a.checkpoint, str(mg.resolve_device(a.device)))
        start = mg.from_numpy(tokenizer.encode(a.prompt)).to(a.device).unsqueeze(0)
        tokens = model.generate(start, a.count, a.temperature, a.top_k, a.top_p)
    except (ValueError, RuntimeError) as error:
        parser.exit(2, f"generate: {error}\n")
    text = tokenizer.decode(tokens[0].cpu())
    print(text)
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
