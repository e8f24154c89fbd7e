#!/usr/bin/env python3
"""Makes tests/golden/: small models, attention calls and a tokenizer with the values expected of them.

    python3 tests/make_golden.py                  make every part (about 5 s)
    python3 tests/make_golden.py --check          recompute and compare with the committed files
    python3 tests/make_golden.py [--check] NAME   only these parts: a model's name, ragged, train, attention,
                                                  classifier, tokenizer
    python3 tests/make_golden.py --seeds NAME     list the seeds whose numbers are safe to compare in fp32
    --out DIR                                     another directory than tests/golden

Needs numpy and torch, tokenizers for the part of that name, and transformers for classifier. Made with Python 3.11,
torch 1.13, numpy 1.24, tokenizers 0.23, transformers 4.40. Everything is seeded; torch runs on one thread. Nothing here
is shared with the C code: the models are written anew in PyTorch, with autograd for the gradients and torch.optim for
AdamW; the classifier is transformers' own.

All weights, ids and inputs are rounded to fp32 first; everything expected is computed from those in float64 and
rounded to fp32 when written. `fp32_run_max_abs_difference` is what the same computation in fp32 throughout differs by:
a guide to tolerances. Raw files have no header, are little-endian and row-major.

MODELS  mha gqa mqa kqv combined map cla. In each directory:
    config.json               Hugging Face's GPT-Neo fields, plus num_key_value_heads and kqv_size, and where the model
                              has them kv_of_head (for each query head its key/value head) and kv_of_layer (for each
                              layer the layer whose keys and values it reads; one that reads another's has no k_proj
                              and v_proj weights; the window is always the reader's own)
    model.safetensors         weights, with Hugging Face's names; the head is tied to transformer.wte.weight
    input_ids.i32             2 x 20 token ids
    logits.f32                2 x 20 x V
    grads.safetensors         gradient of the loss for every weight
    after_adamw3.safetensors  weights after three AdamW steps on input_ids
    greedy.i32                2 x 14: greedy continuation of the first 8 tokens of each row
    expected.json             loss: mean cross entropy over the 2 x 19 next tokens; the loss before each AdamW step and
                              after the last; the smallest gap between best and second-best logit along the greedy
                              path; fp32 differences; largest magnitudes; the shapes above
  Scores are not scaled. Query i of a local layer sees j with i - window < j <= i. Without kv_of_head the query heads
  belong to key/value heads in order and the first H mod G groups have one head more. LayerNorm eps 1e-5, gelu_new,
  no dropout. AdamW: lr 1e-3, betas .9 .999, eps 1e-8, decay 0.01 on every parameter, constant rate, no clipping.
  map leaves key/value head 1 unread: its gradients are 0. Position rows that no id reaches have gradient 0 too.

ragged  one batch of sequences of lengths 20 1 7 13 laid end to end, on model gqa. expected.json: model, lengths,
        targets (the 37 next tokens within sequences), loss = mean over them; ids, logits and grads as above.

train   train.json: six optimizer steps on model mha, each over two ragged micro-batches whose gradients are summed
        unnormalised and divided once by the step's next tokens; then clipping by the global norm
        (scale = min(1, max / (norm + 1e-6))); AdamW with decay on two-dimensional weights only (embeddings count).
        lr(s), s from 0: s < warmup: lr (s+1) / warmup; else min + (lr - min) f((s - warmup) / (steps - warmup)), with
        f(x) = (1 + cos(pi x)) / 2 or 1 - x. Per run: the loss before each step, gradient norm before clipping,
        clipping scale, learning rate, next tokens; and the final weights in a safetensors file.

attention  cases.json: a list of calls; cases.safetensors: for each case NAME.q .k .v .dout .out .p .dq .dk .dv.
        The sequences of a batch are laid end to end: q [sum of q_len, H, D], k [sum of k_len, G, D],
        v [sum of k_len, G, Dv], out and dout [sum of q_len, H, Dv]; p is flat, for each sequence [H, q_len, k_len].
        Query i is at key position q_offset + i; causal sees j <= that; window W > 0 sees j > that - W.
        A query that sees no key gives 0 and has no gradient.

classifier  GPTNeoForSequenceClassification of transformers, of three labels with names: its config.json (but for its
        version) and model.safetensors; five sequences laid end to end, which transformers saw one by one padded to the
        longest. lengths.i32, labels.i32 (-100: none), input_ids.i32, logits.f32 [5, labels], grads.safetensors of the
        mean loss over the labelled ones; expected.json: loss, and the difference between its runs in float64 and fp32.
        Its attention computes scores in fp32 in both; the model above with a head of labels agrees with it to 2e-6.

tokenizer  text.txt, a text of short sentences made here; a byte-level BPE of 600 entries that Hugging Face's
        tokenizers trains on it (tokenizer.json, and vocab.json with merges.txt); cases.jsonl: texts with their ids
        (no special tokens added, those in the text recognised) and what the ids decode to.
"""
import argparse
import json
import math
import os
import struct
import sys
import tempfile
import unicodedata

import numpy as np
import torch
import torch.nn.functional as nnf

torch.set_num_threads(1)
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
SIZE_LIMIT = 920_000

ROWS, LENGTH, PROMPT, NEW = 2, 20, 8, 14
POSITIONS = 24  # two more than the longest use: the last rows stay unused
RAGGED = [20, 1, 7, 13]

# C hidden, V vocabulary, F feed-forward, H query heads, G key/value heads, S total query width, W window.
MODELS = {
    "mha": dict(seed=46, C=24, V=29, F=8, H=3, G=3, S=24, W=5, layers="gl"),
    "gqa": dict(seed=13, C=25, V=29, F=8, H=5, G=3, S=25, W=4, layers="gl"),
    "mqa": dict(seed=34, C=18, V=41, F=13, H=2, G=1, S=18, W=7, layers="lg"),
    "kqv": dict(seed=40, C=18, V=37, F=15, H=4, G=4, S=12, W=6, layers="gl"),
    "combined": dict(seed=30, C=19, V=33, F=14, H=3, G=2, S=15, W=3, layers="gl"),
    "map": dict(seed=21, C=12, V=61, F=11, H=4, G=3, S=12, W=5, layers="gl", kv_of_head=[2, 0, 0, 2]),
    "cla": dict(seed=30, C=12, V=31, F=10, H=4, G=3, S=12, W=4, layers="lggll", kv_of_layer=[0, 0, 2, 0, 2]),
}


# ---------------------------------------------------------------- files

def write_bytes(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def write_json(path, value):
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def fp32(x):
    return np.ascontiguousarray(x.detach().numpy() if torch.is_tensor(x) else x, dtype="<f4")


def write_safetensors(path, tensors):
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        a = fp32(tensors[name])
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        blobs.append(a.tobytes())
        at += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_safetensors(path):
    with open(path, "rb") as f:
        data = f.read()
    start = 8 + struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[start + t["data_offsets"][0]:start + t["data_offsets"][1]], "<f4")
            .reshape(t["shape"]) for name, t in header.items()}


# ---------------------------------------------------------------- attention

def default_groups(heads, kv_heads):
    """[0 0 1 1 2] for 5 heads and 3 key/value heads."""
    sizes = [heads // kv_heads + (g < heads % kv_heads) for g in range(kv_heads)]
    return [g for g in range(kv_heads) for _ in range(sizes[g])]


def attend(q, k, v, kv_of_head, scale=1.0, q_offset=0, window=0, causal=True):
    """One sequence: q [Tq,H,D], k [Tk,G,D], v [Tk,G,Dv] -> out [Tq,H,Dv], p [H,Tq,Tk]."""
    k, v = k[:, kv_of_head], v[:, kv_of_head]
    i = q_offset + torch.arange(q.shape[0])[:, None]
    j = torch.arange(k.shape[0])[None, :]
    sees = torch.ones(q.shape[0], k.shape[0], dtype=torch.bool)
    if causal:
        sees &= j <= i
    if window:
        sees &= j > i - window
    scores = torch.einsum("ihd,jhd->hij", q, k) * scale
    scores = scores.masked_fill(~sees, -math.inf)
    scores = torch.where(sees.any(1)[:, None], scores, torch.zeros_like(scores))  # a row that sees nothing
    p = scores.softmax(-1) * sees
    return torch.einsum("hij,jhd->ihd", p, v), p


# ---------------------------------------------------------------- the model

def layer_names(c):
    return [{"g": "global", "l": "local"}[x] for x in c["layers"]]


def owners(c):
    return c.get("kv_of_layer", list(range(len(c["layers"]))))


def hf_config(c):
    config = {
        "architectures": ["GPTNeoForCausalLM"], "model_type": "gpt_neo",
        "vocab_size": c["V"], "max_position_embeddings": POSITIONS, "hidden_size": c["C"],
        "num_layers": len(c["layers"]), "attention_types": [[layer_names(c), 1]], "attention_layers": layer_names(c),
        "num_heads": c["H"], "intermediate_size": c["F"], "window_size": c["W"], "activation_function": "gelu_new",
        "resid_dropout": 0.0, "embed_dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0,
        "layer_norm_epsilon": 1e-05, "initializer_range": 0.02, "tie_word_embeddings": True, "use_cache": True,
        "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "float32",
        "num_key_value_heads": c["G"], "kqv_size": c["S"],
    }
    config.update({key: c[key] for key in ("kv_of_head", "kv_of_layer") if key in c})
    return config


def shapes(c):
    C, S, F, kv = c["C"], c["S"], c["F"], c["G"] * (c["S"] // c["H"])
    out = {"transformer.wte.weight": (c["V"], C), "transformer.wpe.weight": (POSITIONS, C),
           "transformer.ln_f.weight": (C,), "transformer.ln_f.bias": (C,)}
    for layer, owner in enumerate(owners(c)):
        h = f"transformer.h.{layer}."
        for norm in ("ln_1", "ln_2"):
            out[h + norm + ".weight"] = out[h + norm + ".bias"] = (C,)
        out[h + "attn.attention.q_proj.weight"] = (S, C)
        if owner == layer:
            out[h + "attn.attention.k_proj.weight"] = out[h + "attn.attention.v_proj.weight"] = (kv, C)
        out[h + "attn.attention.out_proj.weight"], out[h + "attn.attention.out_proj.bias"] = (C, S), (C,)
        out[h + "mlp.c_fc.weight"], out[h + "mlp.c_fc.bias"] = (F, C), (F,)
        out[h + "mlp.c_proj.weight"], out[h + "mlp.c_proj.bias"] = (C, F), (C,)
    return out


def draw_weights(c, random):
    """N(0, 0.3), and N(1, 0.3) for the weights of the norms."""
    weights = {}
    for name, shape in sorted(shapes(c).items()):
        mean = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
        weights[name] = fp32(mean + 0.3 * random.standard_normal(shape))
    return weights


def make_inputs(name, seed=None):
    c = MODELS[name]
    random = np.random.RandomState(c["seed"] if seed is None else seed)
    return c, draw_weights(c, random), random.randint(0, c["V"], (ROWS, LENGTH))


def parameters(weights, dtype):
    return {name: torch.tensor(w, dtype=dtype, requires_grad=True) for name, w in weights.items()}


def gelu_new(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def norm(w, name, x):
    return nnf.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-5)


def linear(w, name, x):
    return nnf.linear(x, w[name + ".weight"], w.get(name + ".bias"))


def stream(w, c, ids):
    """The final norm's output [T, C] of one sequence."""
    D = c["S"] // c["H"]
    groups = c.get("kv_of_head", default_groups(c["H"], c["G"]))
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][:len(ids)]
    kept = {}
    for layer, owner in enumerate(owners(c)):
        name = f"transformer.h.{layer}."
        project = lambda part, heads: linear(w, name + "attn.attention." + part, a).view(len(ids), heads, D)
        a = norm(w, name + "ln_1", x)
        if owner == layer:
            kept[layer] = project("k_proj", c["G"]), project("v_proj", c["G"])
        window = c["W"] if c["layers"][layer] == "l" else 0
        a, _ = attend(project("q_proj", c["H"]), *kept[owner], groups, window=window)
        x = x + linear(w, name + "attn.attention.out_proj", a.reshape(len(ids), c["S"]))
        m = gelu_new(linear(w, name + "mlp.c_fc", norm(w, name + "ln_2", x)))
        x = x + linear(w, name + "mlp.c_proj", m)
    return norm(w, "transformer.ln_f", x)


def forward(w, c, ids):
    """The logits [T, V] of one sequence."""
    return stream(w, c, ids) @ w["transformer.wte.weight"].T


def loss_sum(w, c, sequences):
    """The summed cross entropy of all next tokens, their number, and the logits of all sequences."""
    logits = [forward(w, c, torch.tensor(s)) for s in sequences]
    total = sum(nnf.cross_entropy(z[:-1], torch.tensor(s[1:]), reduction="sum")
                for z, s in zip(logits, sequences) if len(s) > 1)
    return total, sum(len(s) - 1 for s in sequences), torch.cat(logits)


def gradients(w):
    return {name: p.grad.clone() for name, p in w.items()}


def values(w):
    return {name: p.detach().clone() for name, p in w.items()}


def greedy(w, c, ids):
    rows, margin = [], math.inf
    with torch.no_grad():
        for row in ids:
            row = list(row[:PROMPT])
            for _ in range(NEW):
                best = forward(w, c, torch.tensor(row))[-1].topk(2)
                margin = min(margin, (best.values[0] - best.values[1]).item())
                row.append(best.indices[0].item())
            rows.append(row[PROMPT:])
    return np.array(rows), margin


def run_model(c, weights, ids, dtype):
    w = parameters(weights, dtype)
    r = {"losses": []}
    r["greedy"], r["margin"] = greedy(w, c, ids)
    adamw = torch.optim.AdamW(w.values(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    for step in range(4):
        adamw.zero_grad()
        total, count, logits = loss_sum(w, c, ids.tolist())
        (total / count).backward()
        r["losses"].append((total / count).item())
        if step == 0:
            r["logits"], r["grads"] = logits.detach(), gradients(w)
        if step < 3:
            adamw.step()
    r["after"] = values(w)
    return r


def difference(a, b):
    """The largest absolute difference of two numbers, lists, tensors or dicts of tensors."""
    if isinstance(a, dict):
        return max(difference(a[k], b[k]) for k in a)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max()) if a.size else 0.0


def largest(a):
    return max(largest(x) for x in a.values()) if isinstance(a, dict) else a.abs().max().item()


def model_differences(r, r32):
    return {"logits": difference(r["logits"], r32["logits"]), "loss": difference(r["losses"], r32["losses"]),
            "grads": difference(r["grads"], r32["grads"]), "after_adamw3": difference(r["after"], r32["after"])}


def safe(r, r32):
    """No greedy token is near a tie, and no AdamW step depends on the sign of rounding."""
    return bool((r["greedy"] == r32["greedy"]).all()) and r["margin"] > 5e-3 \
        and len(np.unique(r["greedy"])) > 6 and difference(r["after"], r32["after"]) < 2e-6


def make_model(directory, name):
    c, weights, ids = make_inputs(name)
    r, r32 = run_model(c, weights, ids, torch.float64), run_model(c, weights, ids, torch.float32)
    assert safe(r, r32), name + ": choose another seed"
    path = lambda file: os.path.join(directory, file)
    write_json(path("config.json"), hf_config(c))
    write_safetensors(path("model.safetensors"), weights)
    write_bytes(path("input_ids.i32"), ids.astype("<i4").tobytes())
    write_bytes(path("logits.f32"), fp32(r["logits"]).tobytes())
    write_safetensors(path("grads.safetensors"), r["grads"])
    write_safetensors(path("after_adamw3.safetensors"), r["after"])
    write_bytes(path("greedy.i32"), r["greedy"].astype("<i4").tobytes())
    write_json(path("expected.json"), {
        "loss": r["losses"][0],
        "losses_before_each_step_and_after": r["losses"],
        "greedy_smallest_logit_margin": r["margin"],
        "fp32_run_max_abs_difference": model_differences(r, r32),
        "max_abs": {"logits": largest(r["logits"]), "grads": largest(r["grads"])},
        "shapes": {"input_ids": [ROWS, LENGTH], "logits": [ROWS, LENGTH, c["V"]],
                   "greedy": [ROWS, NEW], "greedy_prompt": PROMPT},
    })


def find_seeds(name, tries=60):
    for seed in range(tries):
        c, weights, ids = make_inputs(name, seed)
        r, r32 = run_model(c, weights, ids, torch.float64), run_model(c, weights, ids, torch.float32)
        if safe(r, r32):
            print(f"{name} seed {seed}: margin {r['margin']:.4f}, {model_differences(r, r32)}")


# ---------------------------------------------------------------- ragged

def split(ids, lengths):
    ends = np.cumsum(lengths)
    return [ids[end - n:end] for n, end in zip(lengths, ends)]


def run_ragged(c, weights, sequences, dtype):
    w = parameters(weights, dtype)
    total, count, logits = loss_sum(w, c, sequences)
    (total / count).backward()
    return {"loss": (total / count).item(), "targets": count, "logits": logits.detach(), "grads": gradients(w)}


def make_ragged(directory):
    c, weights, _ = make_inputs("gqa")
    ids = np.random.RandomState(7).randint(0, c["V"], sum(RAGGED))
    sequences = split(ids.tolist(), RAGGED)
    r, r32 = (run_ragged(c, weights, sequences, dtype) for dtype in (torch.float64, torch.float32))
    path = lambda file: os.path.join(directory, file)
    write_bytes(path("input_ids.i32"), ids.astype("<i4").tobytes())
    write_bytes(path("logits.f32"), fp32(r["logits"]).tobytes())
    write_safetensors(path("grads.safetensors"), r["grads"])
    write_json(path("expected.json"), {
        "model": "gqa", "lengths": RAGGED, "targets": r["targets"], "loss": r["loss"],
        "fp32_run_max_abs_difference": {k: difference(r[k], r32[k]) for k in ("logits", "loss", "grads")},
        "max_abs": {"logits": largest(r["logits"]), "grads": largest(r["grads"])},
    })


# ---------------------------------------------------------------- train

TRAIN = {"model": "mha", "steps": 6, "lr": 3e-3, "min_lr": 3e-4, "warmup": 2,
         "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1}
TRAIN_RUNS = [("cosine", 0.5), ("linear", 7.0)]  # schedule, max_grad_norm: the second clips some steps only
TRAIN_LENGTHS = [[[20], [11, 9]], [[5, 17], [1, 8, 3]], [[2, 2, 2], [19, 14]], [[13, 6, 10], [22]],
                 [[1], [16, 4]], [[9, 21], [12, 1, 7]]]


def learning_rate(schedule, s):
    t = TRAIN
    if s < t["warmup"]:
        return t["lr"] * (s + 1) / t["warmup"]
    x = (s - t["warmup"]) / (t["steps"] - t["warmup"])
    falling = 0.5 * (1 + math.cos(math.pi * x)) if schedule == "cosine" else 1 - x
    return t["min_lr"] + (t["lr"] - t["min_lr"]) * falling


def train_batches(vocabulary):
    random = np.random.RandomState(11)
    return [[{"lengths": lengths, "ids": random.randint(0, vocabulary, sum(lengths)).tolist()} for lengths in step]
            for step in TRAIN_LENGTHS]


def run_train(c, weights, batches, schedule, max_norm, dtype):
    w = parameters(weights, dtype)
    groups = [{"params": [p for p in w.values() if p.dim() == 2], "weight_decay": TRAIN["weight_decay"]},
              {"params": [p for p in w.values() if p.dim() == 1], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, betas=(TRAIN["beta1"], TRAIN["beta2"]), eps=TRAIN["eps"])
    r = {"lr": [], "loss": [], "targets": [], "grad_norm": [], "clip_scale": []}
    for s, micro_batches in enumerate(batches):
        adamw.zero_grad()
        loss = targets = 0
        for m in micro_batches:
            total, count, _ = loss_sum(w, c, split(m["ids"], m["lengths"]))
            if count:
                total.backward()
                loss += total.item()
                targets += count
        for p in w.values():
            p.grad /= targets
        norm_before = torch.nn.utils.clip_grad_norm_(w.values(), max_norm).item()
        for group in adamw.param_groups:
            group["lr"] = learning_rate(schedule, s)
        adamw.step()
        r["lr"].append(learning_rate(schedule, s))
        r["loss"].append(loss / targets)
        r["targets"].append(targets)
        r["grad_norm"].append(norm_before)
        r["clip_scale"].append(min(1.0, max_norm / (norm_before + 1e-6)))
    return r, values(w)


def make_train(directory):
    c, weights, _ = make_inputs(TRAIN["model"])
    batches, runs = train_batches(c["V"]), []
    for schedule, max_norm in TRAIN_RUNS:
        (r, final), (r32, final32) = (run_train(c, weights, batches, schedule, max_norm, dtype)
                                      for dtype in (torch.float64, torch.float32))
        assert difference(final, final32) < 5e-6, "train: choose other seeds"
        write_safetensors(os.path.join(directory, schedule + ".safetensors"), final)
        runs.append({"schedule": schedule, "max_grad_norm": max_norm, "final_weights": schedule + ".safetensors", **r,
                     "fp32_run_max_abs_difference": {
                         "loss": difference(r["loss"], r32["loss"]),
                         "grad_norm": difference(r["grad_norm"], r32["grad_norm"]),
                         "final_weights": difference(final, final32)}})
    write_json(os.path.join(directory, "train.json"), {**TRAIN, "runs": runs, "batches": batches})


# ---------------------------------------------------------------- attention cases

def case(name, H, G, D, q_len, k_len=None, q_offset=None, Dv=None, window=0, causal=True, scale=1.0, kv_of_head=None):
    return {"name": name, "H": H, "G": G, "D": D, "Dv": Dv or D, "kv_of_head": kv_of_head or default_groups(H, G),
            "q_len": q_len, "k_len": k_len or q_len, "q_offset": q_offset or [0] * len(q_len),
            "window": window, "causal": causal, "scale": float(np.float32(scale))}


ATTENTION = [
    case("mha", 3, 3, 3, [5, 3]),
    case("mha_window", 4, 4, 7, [6, 4], window=3, scale=0.5),
    case("gqa_uneven_window", 5, 3, 7, [5, 1, 4], window=3, scale=7 ** -0.5),
    case("gqa_g2_of_5", 5, 2, 9, [3, 4], scale=1 / 3),
    case("gqa_g4_of_6_non_causal", 6, 4, 3, [3, 5], causal=False),
    case("mqa_chunk", 4, 1, 9, [3, 2], k_len=[8, 5], q_offset=[5, 3], scale=1 / 3),
    case("step", 3, 2, 48, [1, 1], k_len=[3, 2], q_offset=[2, 1], scale=48 ** -0.5),
    case("step_window", 6, 4, 3, [1, 1, 1], k_len=[7, 1, 20], q_offset=[6, 0, 19], window=8),
    case("cross", 4, 2, 7, [4, 2, 1], k_len=[6, 9, 1], causal=False, scale=0.4),
    case("future_keys", 3, 2, 9, [2, 3], k_len=[9, 7], q_offset=[3, 1], scale=1 / 3),
    case("d1", 3, 2, 1, [6, 4]),
    case("d48", 2, 1, 48, [3, 1], window=2, scale=48 ** -0.5),
    case("values_wider", 4, 2, 3, [5, 4], Dv=7),
    case("values_narrower", 3, 2, 9, [4, 3], Dv=1, window=2),
    case("map_empty_group", 4, 3, 3, [5, 2], Dv=5, kv_of_head=[2, 0, 0, 2]),
    case("map_scattered", 6, 3, 7, [4, 3], kv_of_head=[1, 2, 0, 1, 1, 0], window=3, scale=0.5),
    case("past_the_window", 3, 2, 3, [4, 2], k_len=[3, 5], q_offset=[2, 3], window=2),
    case("no_keys", 3, 2, 3, [2, 3], k_len=[0, 4], causal=False),
    case("large_scores", 2, 2, 7, [6], scale=20.0),
    case("long", 2, 1, 3, [5, 3], k_len=[130, 35], q_offset=[125, 32]),
    case("long_window", 2, 1, 3, [3], k_len=[140], q_offset=[137], window=67),
]


def attention_inputs(c, seed):
    random = np.random.RandomState(seed)
    draw = lambda *shape: fp32(random.standard_normal(shape))
    queries, keys = sum(c["q_len"]), sum(c["k_len"])
    return {"q": draw(queries, c["H"], c["D"]), "k": draw(keys, c["G"], c["D"]), "v": draw(keys, c["G"], c["Dv"]),
            "dout": draw(queries, c["H"], c["Dv"])}


def run_attention(c, inputs, dtype):
    x = {name: torch.tensor(a, dtype=dtype, requires_grad=name != "dout") for name, a in inputs.items()}
    outs, ps = [], []
    for q, k, v, offset in zip(x["q"].split(c["q_len"]), x["k"].split(c["k_len"]), x["v"].split(c["k_len"]),
                               c["q_offset"]):
        out, p = attend(q, k, v, c["kv_of_head"], c["scale"], offset, c["window"], c["causal"])
        outs.append(out)
        ps.append(p.detach().flatten())
    out = torch.cat(outs)
    out.backward(x["dout"])
    return {"out": out.detach(), "p": torch.cat(ps), "dq": x["q"].grad, "dk": x["k"].grad, "dv": x["v"].grad}


def make_attention(directory):
    tensors, cases = {}, []
    for seed, c in enumerate(ATTENTION):
        inputs = attention_inputs(c, 100 + seed)
        r, r32 = (run_attention(c, inputs, dtype) for dtype in (torch.float64, torch.float32))
        tensors.update({f"{c['name']}.{k}": a for k, a in {**inputs, **r}.items()})
        cases.append({**c, "fp32_run_max_abs_difference": {k: difference(r[k], r32[k]) for k in r}})
    write_safetensors(os.path.join(directory, "cases.safetensors"), tensors)
    write_bytes(os.path.join(directory, "cases.json"), one_per_line(cases).encode())


def one_per_line(items):
    return "[\n" + ",\n".join(json.dumps(x) for x in items) + "\n]\n"


# ---------------------------------------------------------------- classifier

CLASSIFIER = dict(seed=5, C=12, V=31, F=11, H=3, G=3, S=12, W=4, layers="gl")
LABEL_NAMES = ["entailment", "neutral", "contradiction"]
CLASSIFIED, LABELS, PAD = [20, 1, 7, 13, 4], [2, 0, -100, 1, 2], 30


def run_classifier(config, weights, ids, dtype):
    from transformers import GPTNeoForSequenceClassification
    torch.set_default_dtype(dtype)  # of its masks
    model = GPTNeoForSequenceClassification(config)
    model.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    model.eval().to(dtype)
    padded = torch.full((len(CLASSIFIED), max(CLASSIFIED)), PAD)
    for row, sequence in enumerate(ids):
        padded[row, :len(sequence)] = torch.tensor(sequence)
    out = model(padded, attention_mask=torch.arange(max(CLASSIFIED)) < torch.tensor(CLASSIFIED)[:, None],
                labels=torch.tensor(LABELS))
    out.loss.backward()
    torch.set_default_dtype(torch.float32)
    return {"loss": out.loss.item(), "logits": out.logits.detach(),
            "grads": {name: p.grad.clone() for name, p in model.named_parameters()}}


def run_own_classifier(c, weights, ids):
    w = parameters(weights, torch.float64)
    logits = torch.stack([stream(w, c, torch.tensor(s))[-1] for s in ids]) @ w["score.weight"].T
    loss = nnf.cross_entropy(logits, torch.tensor(LABELS))
    loss.backward()
    return {"loss": loss.item(), "logits": logits.detach(), "grads": gradients(w)}


def make_classifier(directory):
    from transformers import GPTNeoConfig
    c, random = CLASSIFIER, np.random.RandomState(CLASSIFIER["seed"])
    weights = draw_weights(c, random)
    weights["score.weight"] = fp32(0.3 * random.standard_normal((len(LABEL_NAMES), c["C"])))
    ids = split(random.randint(0, PAD, sum(CLASSIFIED)).tolist(), CLASSIFIED)
    config = GPTNeoConfig(
        architectures=["GPTNeoForSequenceClassification"], vocab_size=c["V"], max_position_embeddings=POSITIONS,
        hidden_size=c["C"], num_layers=len(c["layers"]), attention_types=[[layer_names(c), 1]], num_heads=c["H"],
        intermediate_size=c["F"], window_size=c["W"], bos_token_id=0, eos_token_id=0, pad_token_id=PAD,
        id2label=dict(enumerate(LABEL_NAMES)), label2id={name: i for i, name in enumerate(LABEL_NAMES)},
        problem_type="single_label_classification")
    r, r32 = (run_classifier(config, weights, ids, dtype) for dtype in (torch.float64, torch.float32))
    own = run_own_classifier(c, weights, ids)
    assert all(difference(r[k], own[k]) < 2e-6 for k in own), "classifier: transformers says something else"
    path = lambda file: os.path.join(directory, file)
    written = json.loads(config.to_json_string())
    written.pop("transformers_version")
    write_json(path("config.json"), written)
    write_safetensors(path("model.safetensors"), weights)
    for name, x in (("lengths", CLASSIFIED), ("labels", LABELS), ("input_ids", sum(ids, []))):
        write_bytes(path(name + ".i32"), np.array(x, "<i4").tobytes())
    write_bytes(path("logits.f32"), fp32(r["logits"]).tobytes())
    write_safetensors(path("grads.safetensors"), r["grads"])
    write_json(path("expected.json"), {
        "loss": r["loss"], "labelled": sum(label >= 0 for label in LABELS),
        "fp32_run_max_abs_difference": {k: difference(r[k], r32[k]) for k in ("logits", "loss", "grads")},
        "max_abs": {"logits": largest(r["logits"]), "grads": largest(r["grads"])},
    })


# ---------------------------------------------------------------- tokenizer

SPECIALS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
WORDS = {
    "name": "Mia Tom Ada Ben Zoë Sam Lily Finn Nora René Max Ivy".split(),
    "pet": "cat dog rabbit duck hen pony mouse fox frog hedgehog owl goat".split(),
    "like": "little,big,brown,sleepy,funny,brave,quiet,hungry,happy,clever,muddy,soft".split(","),
    "thing": "ball kite boat basket lantern drum ladder blanket apple cake whistle button".split(),
    "place": "the garden,the river,the old barn,the kitchen,the forest,the hill,a café,the market,the pond".split(","),
    "did": "ran looked jumped waited danced sang slept hopped walked played".split(),
    "did_to": "found lost carried painted shared hid wanted mended washed followed".split(),
    "said": "said,asked,whispered,shouted,laughed".split(","),
    "when": "One day,In the morning,After lunch,That night,Then,Soon,Later,At 7 o'clock,On day 23".split(","),
    "number": "two,three,5,12,48,307,1999".split(","),
}
SENTENCES = [
    "{when}, {name} and the {like} {pet} {did} to {place}.",
    "{name} {did_to} a {like} {thing}.",
    "\"I can't see the {thing}!\" {said} {name}.",
    "\"Let's go to {place},\" {said} the {pet}. \"We'll be back soon.\"",
    "The {pet} {did} and {did}, and {name} {did} too.",
    "There were {number} {pet}s in {place}.",
    "{name}'s {thing} was {like}, but the {pet}'s {thing} was {like} and {like}.",
    "“Don’t worry,” {said} {name} — “it’s only a {pet}.”",
    "They {did_to} the {thing}, and they were {like}.",
    "\"You're {like}, and I'm {like},\" {said} the {pet}; \"they've {did_to} {number} {thing}s.\"",
    "{name} (who {did}) {did_to} the {thing}: it was {like}...",
    "Do you know why the {like} {pet} {did_to} it?",
]


def make_text(limit=32_000):
    """Stories of a few sentences, a line each now and then, an empty line between them."""
    random = np.random.RandomState(5)
    pick = lambda items: items[random.randint(len(items))]
    stories, size = [], 0
    while size < limit:
        story = "Once upon a time there was a " + pick(WORDS["like"]) + " " + pick(WORDS["pet"]) + "."
        for _ in range(random.randint(4, 9)):
            sentence = pick(SENTENCES)
            while "{" in sentence:
                kind = sentence[sentence.index("{") + 1:sentence.index("}")]
                sentence = sentence.replace("{" + kind + "}", pick(WORDS[kind]), 1)
            story += pick([" ", " ", " ", "\n"]) + sentence
        stories.append(story + "\n")
        size += len(stories[-1].encode()) + 1
    return "\n".join(stories)


def train_tokenizer(texts):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), True, False)
    specials = [AddedToken(s, lstrip=s == "<mask>", normalized=s != "<mask>", special=True) for s in SPECIALS]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=600, min_frequency=2, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


FRAGMENTS = (
    "'s 't 're 've 'm 'll 'd 'S 'T 'LL 'Re ' '' can't don’t ’s ’ll I'm we'd o'clock ''s 'sun "
    "a the ing Once upon THE Tom Zoë naïve café e\u0301 \u0301 n\u0303o a\u20dd ß ſ K Å İ ı ﬁ ǆ "
    "1 14 159 307 3.14 1,999 Ⅷ ⅷ ½ ¾ ² ³ ٣ ١٢ ७ ๕ ① ⑳ 〇 一 〹 𝟘 𝟗 𐄇 1st x2 2x Ⅷa a½ "
    "! ? ... -- — … \" “ ” ( ) , . _ __ # @ \\ / < > <s <s> </s> <pad> <unk> <mask> <MASK> <|endoftext|> "
    "日本 日本語 한 한국 Я Ж при Ω αβγ שלום مرحبا กำ นี่ नमस्ते க் "
    "🙂 👩‍👩‍👧 👍🏽 🇪🇪 🇫 𐐀 𐐨 𝒜𝓑 𠀀 𐌰 \ufe0f \u200d \u200b \ufeff \u180e \u00ad \ue000 \ufffd \U0010ffff "
    "$ € ™ © ¬ ± × ÷ ← ∑ ☃ ♥").split(" ")
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", "\r", "\v", "\f", " \n", "\n ",
          "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u2000", "\u2003", "\u2009", "\u2028", "\u2029", "\u202f", "\u205f",
          "\u3000"]
CONTROLS = ["\0", "\x01", "\x07", "\x1b", "\x7f", "\x80", "\x9f"]
BLOCKS = [(0x20, 0x7f), (0xa0, 0x250), (0x300, 0x370), (0x370, 0x590), (0x5d0, 0x6f0), (0x900, 0xe80), (0x1e00, 0x2190),
          (0x2190, 0x2700), (0x3000, 0x3200), (0x4e00, 0x9fa0), (0xac00, 0xd7a0), (0xf900, 0x10000),
          (0x10300, 0x10450), (0x1d400, 0x1d800), (0x20000, 0x2a6d0)]
FIXED_CASES = ["", " ", "  ", "\n", " a", "a ", "  a  ", "a  b", "a\n\n b", "a \n b", "Once upon a time", "<mask>",
               " <mask>", "a <mask>", "a  <mask> b", "a\n<mask>", "a\u3000\u2003<mask>", "<s> <mask> </s>", "<s>a</s>",
               " <s> a </s> ", "<pad><pad><pad>", "<<s>>", "<mask><mask>", "<mask> <mask>", "a<mask>b", "<unk> x <unk>",
               "I can't, I'll, I'D, I'm; we've they're 'tis 's's", "x's' t's", "12345 Ⅷ½٣ a1b2", "\0", "'"]


def old_character(random):
    """A random character whose class has been the same since Unicode 3.2."""
    while True:
        low, high = BLOCKS[random.randint(len(BLOCKS))]
        ch = chr(random.randint(low, high))
        kind = unicodedata.category(ch)
        if kind not in ("Cn", "Cs") and kind == unicodedata.ucd_3_2_0.category(ch):
            return ch


def mixture(random, fragments):
    out = ""
    for _ in range(random.randint(1, 14)):
        kind = random.randint(10)
        if kind < 5:
            out += fragments[random.randint(len(fragments))]
        elif kind < 8:
            out += SPACES[random.randint(len(SPACES))]
        elif kind < 9 or random.randint(3):
            out += old_character(random)
        else:
            out += CONTROLS[random.randint(len(CONTROLS))]
    return out


def case_texts(text):
    random = np.random.RandomState(6)
    plain = [f for f in FRAGMENTS if f not in SPECIALS]
    texts = list(FIXED_CASES)
    texts += ["a" + space + "<mask>" + space + "b" for space in dict.fromkeys(SPACES)]
    texts += [mixture(random, plain) for _ in range(100)]
    texts += [mixture(random, FRAGMENTS + SPECIALS * 8) for _ in range(100)]
    texts += ["".join(old_character(random) for _ in range(random.randint(1, 12))) for _ in range(25)]
    for _ in range(20):
        at = random.randint(len(text) - 300)
        texts.append(text[at:at + random.randint(20, 300)])
    return texts


def make_tokenizer(directory):
    text = make_text()
    tokenizer = train_tokenizer([text])
    by_lines = train_tokenizer(text.splitlines(keepends=True))
    assert json.loads(tokenizer.to_str()) == json.loads(by_lines.to_str())  # how the text is cut does not matter
    write_bytes(os.path.join(directory, "text.txt"), text.encode())
    tokenizer.save(os.path.join(directory, "tokenizer.json"), pretty=False)
    tokenizer.model.save(directory)
    lines = []
    for t in case_texts(text):
        ids = tokenizer.encode(t, add_special_tokens=False).ids
        lines.append(json.dumps({"text": t, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                                 "has_special": any(s in t for s in SPECIALS)},
                                ensure_ascii=False, separators=(",", ":")) + "\n")
    write_bytes(os.path.join(directory, "cases.jsonl"), "".join(lines).encode())


# ---------------------------------------------------------------- check

def same_json(a, b, name=""):
    if name == "fp32_run_max_abs_difference":  # rounding errors are the machine's own
        return a.keys() == b.keys()
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k], k) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return type(a) is type(b) and a == b


def close(a, b):
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-8)


def same_file(old, new):
    if new.endswith(".json"):
        return same_json(read_json(old), read_json(new))
    if new.endswith(".safetensors"):
        a, b = read_safetensors(old), read_safetensors(new)
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if new.endswith(".f32"):
        return close(np.fromfile(old, "<f4"), np.fromfile(new, "<f4"))
    with open(old, "rb") as f, open(new, "rb") as g:
        return f.read() == g.read()


def check(committed, part):
    """Makes the part anew elsewhere; returns the numbers of files that agree and that do not."""
    with tempfile.TemporaryDirectory() as fresh:
        make(fresh, part)
        old, new = os.path.join(committed, part), os.path.join(fresh, part)
        files = sorted(set(os.listdir(new)) | set(os.listdir(old) if os.path.isdir(old) else []))
        bad = [f for f in files if not (os.path.exists(os.path.join(old, f)) and os.path.exists(os.path.join(new, f))
                                        and same_file(os.path.join(old, f), os.path.join(new, f)))]
    for f in bad:
        print(f"{part}/{f}: differs")
    return len(files) - len(bad), len(bad)


# ---------------------------------------------------------------- command line

OTHERS = {"ragged": make_ragged, "train": make_train, "attention": make_attention, "classifier": make_classifier,
          "tokenizer": make_tokenizer}


def make(out, part):
    directory = os.path.join(out, part)
    os.makedirs(directory, exist_ok=True)
    if part in MODELS:
        make_model(directory, part)
    else:
        OTHERS[part](directory)


def total_size(directory):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(directory) for f in files)


def main():
    parser = argparse.ArgumentParser(description="Makes or checks tests/golden; the top comment of the file says more.")
    parser.add_argument("parts", nargs="*", metavar="NAME", help=" ".join([*MODELS, *OTHERS]))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--seeds", action="store_true")
    parser.add_argument("--out", default=GOLDEN)
    args = parser.parse_args()
    parts = args.parts or [*MODELS, *OTHERS]
    for part in parts:
        if part not in MODELS and part not in OTHERS:
            parser.error("no part is named " + part)
    if args.seeds:
        for part in parts:
            if part in MODELS:
                find_seeds(part)
        return 0
    if args.check:
        results = [check(args.out, part) for part in parts]
        good, bad = (sum(column) for column in zip(*results))
        print(f"{good} passed, {bad} failed")
        return 1 if bad else 0
    for part in parts:
        make(args.out, part)
        print(f"{part}: {total_size(os.path.join(args.out, part))} bytes")
    size = total_size(args.out)
    print(f"{size} bytes in all")
    return 1 if size >= SIZE_LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
