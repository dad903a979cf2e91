"""BERT (arXiv:1810.04805) with mean pooling, as sentence encoders use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Layer(nn.Module):
    """One layer of a transformer encoder, normalized after each part."""

    def __init__(self, width: int, heads: int, inner: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.mixed = (nn.Linear(width, width) for _ in range(4))
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.first, self.second = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Of x float[batch, tokens, width]; mask float[batch, 1, 1, tokens] is added to the scores of attention."""
        batch, tokens, width = x.shape
        split = (batch, tokens, self.heads, width // self.heads)
        query, key, value = (part(x).view(split).transpose(1, 2) for part in (self.query, self.key, self.value))
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.first(x + self.mixed(seen.transpose(1, 2).reshape(batch, tokens, width)))
        return self.second(x + self.narrow(functional.gelu(self.widen(x))))


class SentenceEncoder(nn.Module):
    """From tokens to one vector of length 1 a sentence."""

    def __init__(self, weights: dict[str, Tensor], heads: int):
        """Take the sizes from the weights, which are named as in Hugging Face's `BertModel`."""
        super().__init__()
        words, positions, kinds = (weights[f"embeddings.{name}_embeddings.weight"] for name in _EMBEDDINGS)
        self.words = nn.Embedding.from_pretrained(words)
        self.positions = nn.Parameter(positions + kinds[0])
        self.norm = nn.LayerNorm(words.shape[1], eps=1e-12)
        inner = weights["encoder.layer.0.intermediate.dense.bias"].shape[0]
        count = sum(name.endswith("intermediate.dense.bias") for name in weights)
        self.layers = nn.ModuleList(Layer(words.shape[1], heads, inner) for _ in range(count))
        self._load(self.norm, weights, "embeddings.LayerNorm")
        for number, layer in enumerate(self.layers):
            for part, name in _NAMES.items():
                self._load(getattr(layer, part), weights, f"encoder.layer.{number}.{name}")

    @staticmethod
    def _load(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
        module.load_state_dict({kind: weights[f"{name}.{kind}"] for kind in ("weight", "bias")})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Of int64[batch, tokens] and a mask of the same shape, 1 where there is a token: float32[batch, width]."""
        x = self.norm(self.words(input_ids) + self.positions[: input_ids.shape[1]])
        kept = attention_mask.to(x.dtype)
        mask = (1 - kept)[:, None, None, :] * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, mask)
        mean = (x * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True).clamp(min=1e-9)
        return functional.normalize(mean, dim=1)


_EMBEDDINGS = ("word", "position", "token_type")
_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mixed": "attention.output.dense",
    "first": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "second": "output.LayerNorm",
}
