#!/usr/bin/env python3
"""attnvar's models in Hugging Face's transformers, also those whose shapes GPTNeoForCausalLM does not know.

    from attnvar_hf import AttnvarForCausalLM
    model = AttnvarForCausalLM.from_pretrained(DIR)                   # a GPT-Neo: generate(), training, save_pretrained()

    python3 tools/attnvar_hf.py DIR --prompt TEXT [--tokens N]        the likeliest continuation
    python3 tools/attnvar_hf.py DIR --ids 1,2,3 [--tokens N]          the same, as ids
    python3 tools/attnvar_hf.py DIR --ids 1,2,3 --logits              a line of logits for each position

config.json then says more than GPT-Neo's. For all layers: num_key_value_heads, kqv_size (the width of all query heads),
kv_of_head (the key/value head that each query head reads), windows (of each layer, 0: global), kv_of_layer (the layer whose
keys and values each layer reads; one that reads another's has no k_proj and v_proj). Or `layers`, with the fields of LAYER
for each. Other fields than these and GPT-Neo's are refused, and so are weights that do not fit.
Needs torch, and transformers 4.36 to 4.44 or 4.54 and later. Tested with 4.36.2, 4.40.2 and 4.44.2 on torch 1.13, and with
4.54.0, 4.57.6, 5.0.0, 5.10.4 and 5.23.0 on torch 2.15.
"""
import argparse
import copy
import os
from types import SimpleNamespace

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer, GPTNeoConfig, GPTNeoForCausalLM
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoMLP, GPTNeoSelfAttention

VERSION = tuple(map(int, transformers.__version__.split(".")[:2]))
if VERSION < (4, 36) or (4, 44) < VERSION < (4, 54):
    raise ImportError(f"transformers {transformers.__version__} is neither 4.36 to 4.44 nor 4.54 or later")
TUPLES = VERSION < (4, 45)      # each layer is given its keys and values and returns them; later one Cache keeps all layers'

FIELDS = {"num_key_value_heads", "kqv_size", "kv_of_head", "windows", "kv_of_layer", "layers"}
NEEDED = {"num_heads", "num_key_value_heads", "head_dim", "intermediate_size"}
LAYER = NEEDED | {"value_dim", "window_size", "kv_layer", "kv_of_head"}


def need(condition, what):
    if not condition:
        raise ValueError(f"config.json: {what}")


def layers_of(config):
    """The fields of LAYER for each layer."""
    extra = {name: getattr(config, name) for name in FIELDS if getattr(config, name, None) is not None}
    unknown = set(config.to_dict()) - set(GPTNeoConfig().to_dict()) - FIELDS - {"dtype"}       # later ones' torch_dtype
    need(not unknown, f"{', '.join(sorted(unknown))}: not known")
    L, H, S = config.num_layers, config.num_heads, extra.get("kqv_size", config.hidden_size)
    windows = extra.get("windows", [config.window_size if kind == "local" else 0 for kind in config.attention_layers])
    owners = extra.get("kv_of_layer", range(L))
    need("layers" in extra or S % H == 0, f"kqv_size={S} is no multiple of num_heads={H}")
    every = dict(num_heads=H, num_key_value_heads=extra.get("num_key_value_heads", H), head_dim=S // H,
                 intermediate_size=config.intermediate_size or 4 * config.hidden_size, kv_of_head=extra.get("kv_of_head"))
    given = extra.get("layers") or [dict(every, kv_layer=owner) for owner in owners]
    need(len(given) == len(windows) == L, f"windows, kv_of_layer and layers are not of num_layers={L}")
    layers = []
    for i, fields in enumerate(given):
        fields = {name: value for name, value in fields.items() if value is not None}
        need(NEEDED <= fields.keys() <= LAYER, f"layers[{i}]: {sorted(NEEDED - fields.keys())} are missing, "
             f"{sorted(fields.keys() - LAYER)} not known")
        l = SimpleNamespace(**{"window_size": windows[i], "kv_layer": i, "value_dim": fields["head_dim"], "kv_of_head": None,
                               **fields})
        H, G = l.num_heads, l.num_key_value_heads
        if l.kv_of_head is None:                            # in order, the first H mod G groups one head larger
            l.kv_of_head = [g for g in range(G) for _ in range(H // G + (g < H % G))]
        need(len(l.kv_of_head) == H and all(0 <= g < G for g in l.kv_of_head),
             f"layer {i}: kv_of_head={l.kv_of_head} does not give each of {H} heads one of {G}")
        layers.append(l)
        owner = layers[l.kv_layer] if 0 <= l.kv_layer <= i else None
        need(owner and owner.kv_layer == l.kv_layer, f"layer {i}: kv_layer={l.kv_layer} is not one with keys and values")
        need((owner.num_key_value_heads, owner.head_dim, owner.value_dim) == (G, l.head_dim, l.value_dim),
             f"layer {i} reads the keys and values of layer {l.kv_layer}, which have other shapes")
    return layers


class Attention(GPTNeoSelfAttention):
    """H query heads that read G key/value heads, its own or an earlier layer's."""

    def __init__(self, config, layers, i, seen):
        l, plain = layers[i], copy.copy(config)
        plain.num_heads, plain.window_size = 1, l.window_size
        super().__init__(plain, "local" if l.window_size else "global")
        C, H, G = config.hidden_size, l.num_heads, l.num_key_value_heads
        self.layer, self.i, self.last, self.seen = l, i, i == len(layers) - 1, seen
        self.q_proj, self.out_proj = nn.Linear(C, H * l.head_dim, bias=False), nn.Linear(H * l.value_dim, C)
        self.k_proj = nn.Linear(C, G * l.head_dim, bias=False) if l.kv_layer == i else None
        self.v_proj = nn.Linear(C, G * l.value_dim, bias=False) if l.kv_layer == i else None

    def forward(self, hidden_states, attention_mask=None, layer_past=None, head_mask=None, use_cache=False, **unused):
        l = self.layer
        query = self._split_heads(self.q_proj(hidden_states), l.num_heads, l.head_dim)
        if l.kv_layer == self.i:
            both = (self._split_heads(self.k_proj(hidden_states), l.num_key_value_heads, l.head_dim),
                    self._split_heads(self.v_proj(hidden_states), l.num_key_value_heads, l.value_dim))
            if layer_past is not None:
                both = [torch.cat(x, dim=-2) for x in zip(layer_past, both)] if TUPLES else layer_past.update(*both, self.i)
            self.seen[self.i] = both
        key, value = self.seen[l.kv_layer]
        if self.last:
            self.seen.clear()
        masks = (attention_mask,) if head_mask is None else (attention_mask, head_mask)
        out, weights = self._attn(query, key[:, l.kv_of_head], value[:, l.kv_of_head], *masks)
        out = self.resid_dropout(self.out_proj(self._merge_heads(out, l.num_heads, l.value_dim)))
        return (out, (key, value) if use_cache else None, weights) if TUPLES else (out, weights)


class AttnvarForCausalLM(GPTNeoForCausalLM):
    supports_gradient_checkpointing = False                 # a layer run once more would not find its owner's keys
    _supports_flash_attn = _supports_flash_attn_2 = False   # Attention is the only one

    def __init__(self, config):
        layers, plain, seen = layers_of(config), copy.copy(config), {}      # seen: each owner's keys and values
        plain.num_heads = 1                                 # divides every width; all attentions are replaced
        super().__init__(plain)
        plain.num_heads = config.num_heads
        for i, block in enumerate(self.transformer.h):
            block.attn.attention = Attention(config, layers, i, seen)
            block.mlp = GPTNeoMLP(layers[i].intermediate_size, config)
        self.post_init()

    @classmethod
    def from_pretrained(cls, folder, **how):
        model, loading = super().from_pretrained(folder, **dict(how, output_loading_info=True))
        for what, names in loading.items():
            if names:
                raise ValueError(f"{what.replace('_', ' ')}: {names}")
        return (model, loading) if how.get("output_loading_info") else model


def token_ids(text):
    return [int(x) for x in text.split(",")]


def count(text):
    if int(text) < 1:
        raise ValueError
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", metavar="DIR")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--prompt", help="text to continue")
    given.add_argument("--ids", type=token_ids, help="the same as 1,2,3")
    parser.add_argument("--tokens", type=count, default=100, help="new tokens at most (default 100)")
    parser.add_argument("--logits", action="store_true", help="print logits instead")
    options = parser.parse_args()
    if not os.path.isfile(os.path.join(options.folder, "config.json")):
        parser.error(f"{options.folder} is no folder with config.json")      # and no name to look for elsewhere
    try:
        model, ids = AttnvarForCausalLM.from_pretrained(options.folder, torch_dtype=torch.float32), options.ids  # as attnvar
        tokenizer = None if options.prompt is None else AutoTokenizer.from_pretrained(options.folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        parser.exit(1, f"{options.folder}: {error}\n")
    if tokenizer:
        prompt = tokenizer(options.prompt, return_special_tokens_mask=True)
        ids, added = prompt["input_ids"], prompt["special_tokens_mask"]
        while len(ids) > 1 and added[len(ids) - 1]:         # what ends a document
            ids.pop()
    V, T = model.config.vocab_size, model.config.max_position_embeddings
    if not 0 < len(ids) <= T or not all(0 <= id < V for id in ids):
        parser.error(f"{len(ids)} ids, {min(ids, default=0)} to {max(ids, default=0)}; taken: 1 to {T}, 0 to {V - 1}")
    ids = torch.tensor([ids])
    if options.logits:
        with torch.no_grad():
            for row in model(ids).logits[0].tolist():
                print(*("%.9g" % x for x in row))
        return
    tokens = min(options.tokens, T - ids.shape[1] + 1)      # the last token needs no position
    new = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    new = new[0, ids.shape[1]:].tolist()
    if not tokenizer:
        print(*new)
    else:
        print(options.prompt + tokenizer.decode(new, skip_special_tokens=True))


if __name__ == "__main__":
    main()
