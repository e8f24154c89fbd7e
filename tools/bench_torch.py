#!/usr/bin/env python3
"""PyTorch beside attnvar: the same shapes in one run, in turns, and how many times as fast attnvar is.

    python3 tools/bench_torch.py [--work matmul,decode,train] [--rounds 3] [--threads N] [--check] [--attnvar FILE]

Needs build/attnvar, and torch for python3 or for /usr/bin/python3. First both compute the same small models, and must agree;
--check ends there. Then torch and `attnvar bench` are measured in turns; told are the medians of the rounds.

Torch works in fp32 in the best of the ways at hand, found out for each shape. Products: mm with the weights as they are or
transposed, mv for one row, oneDNN. Decoding: one scripted function for a step, caches [B G,T,D] taken beforehand, q, k and v
in one product, attention by one product a group (its query heads the rows) or by multiplying and adding up. Training:
autograd, the mask inside the product of the scores, AdamW over all tensors at once. What mm is worth depends on the BLAS
that torch loads, whose file is told: Debian's reference BLAS is slow, libopenblas0-openmp or libblis4-openmp replace it.
"""
import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from typing import List, Optional

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", default="matmul,decode,train", help="which of matmul, decode, train")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both")
    parser.add_argument("--attnvar", default=os.path.join(TOP, "build", "attnvar"), help="the program, if not build/attnvar")
    parser.add_argument("--check", action="store_true", help="only see that both compute the same")
    options = parser.parse_args()
    for work in options.work.split(","):
        if work not in ("matmul", "decode", "train"):
            parser.error(f"--work={options.work}: '{work}' is none of matmul, decode, train")
    for name in "rounds", "threads":
        if getattr(options, name) < 1:
            parser.error(f"--{name}={getattr(options, name)} is not 1 or more")
    return options


OPTIONS = arguments()
for library in "OMP", "BLIS", "OPENBLAS", "MKL":            # they look once, when they are loaded
    os.environ[library + "_NUM_THREADS"] = str(OPTIONS.threads)
try:
    import torch
    import torch.nn.functional as F
except ImportError:
    other = "/usr/bin/python3"
    if sys.executable != other and subprocess.run(f"{other} -c 'import torch' 2> /dev/null", shell=True).returncode == 0:
        os.execv(other, [other] + sys.argv)
    sys.exit("bench_torch: there is no torch: neither python3 nor /usr/bin/python3 can import it")
torch.set_num_threads(OPTIONS.threads)


def attnvar(*words):
    """What it prints."""
    try:
        run = subprocess.run([OPTIONS.attnvar, *words, "--threads", str(OPTIONS.threads)], capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"bench_torch: {OPTIONS.attnvar}: {error.strerror}; `make` builds it")
    if run.returncode:
        sys.exit(f"bench_torch: attnvar {' '.join(words)}: {run.stderr.strip()}")
    return run.stdout


def seconds(f, least=3, enough=0.03):
    """The median of a few calls, after one that does not count."""
    f()
    times, began = [], time.perf_counter()
    while len(times) < least or time.perf_counter() - began < enough:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def agree(what, one, other):
    difference = ((one - other).abs().max() / other.abs().max()).item()
    if not difference < 1e-4:
        sys.exit(f"bench_torch: {what} differ by {difference:.2g} of the largest")


# ---------------------------------------------------------------- products

MM, ONEDNN, MV = 0, 1, 2
TRAIN_WAYS = [MM] + [ONEDNN] * torch.backends.mkldnn.is_available()


def linear(x: torch.Tensor, w: torch.Tensor, b: Optional[torch.Tensor], way: int) -> torch.Tensor:
    """x W^T + b; w is W [N,K], for mm W^T."""
    if way == 1:
        return torch._C._nn.mkldnn_linear(x.to_mkldnn(), w, b).to_dense()
    if way == 2:
        y = torch.mv(w, x.view(-1)) if b is None else torch.addmv(b, w, x.view(-1))
        return y.view(1, -1)
    return torch.mm(x, w) if b is None else torch.addmm(b, x, w)


FASTEST = {}


def prepared(w, rows):
    """W [N,K] for the fastest way to multiply `rows` rows with it: the tensor, the way, its name."""
    ways = [("mm", MM, w.t), ("mm, transposed", MM, lambda: w.t().contiguous())]
    ways += [("oneDNN", ONEDNN, w.to_mkldnn)] * (ONEDNN in TRAIN_WAYS) + [("mv", MV, lambda: w)] * (rows == 1)
    if (rows, w.shape) not in FASTEST:
        x, made = torch.randn(rows, w.shape[1]), [make() for _, _, make in ways]
        calls = [lambda i=i: linear(x, made[i], None, ways[i][1]) for i in range(len(ways))]
        for name, call in zip(ways, calls):
            agree(f"products by {name[0]}", call(), calls[0]())
        took = [seconds(call) for call in calls]
        FASTEST[rows, w.shape] = took.index(min(took))
    name, way, make = ways[FASTEST[rows, w.shape]]
    return make(), way, name


# ---------------------------------------------------------------- the model

LAYER = ["ln_1.weight", "ln_1.bias", "attn.attention.out_proj.weight", "attn.attention.out_proj.bias", "ln_2.weight",
         "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"]


def read_safetensors(path):
    with open(path, "rb") as f:
        data = bytearray(f.read())
    start = 8 + struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:start])
    return {name: torch.frombuffer(data, dtype=torch.float32, offset=start + t["data_offsets"][0],
                                   count=(t["data_offsets"][1] - t["data_offsets"][0]) // 4).view(t["shape"]).clone()
            for name, t in header.items() if name != "__metadata__"}


class Model:
    """A model directory."""

    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            c = json.load(f)
        self.C, self.H, self.T = c["hidden_size"], c["num_heads"], c["max_position_embeddings"]
        self.G, self.S = c.get("num_key_value_heads", self.H), c.get("kqv_size", self.C)
        self.R, self.D = self.H // self.G, self.S // self.H
        self.windows = [c["window_size"] if kind == "local" else 0 for kind in c["attention_layers"]]
        self.named = read_safetensors(os.path.join(folder, "model.safetensors"))
        self.wte, self.wpe, *self.norm = [self.named[f"transformer.{x}"] for x in
                                          ("wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias")]

    def layers(self):
        """Of each those of LAYER, and the weights of q, k and v one below the other."""
        for i in range(len(self.windows)):
            h = f"transformer.h.{i}."
            yield [self.named[h + name] for name in LAYER] + [
                torch.cat([self.named[f"{h}attn.attention.{x}_proj.weight"] for x in "qkv"])]


def published(positions, G=8):
    """The published shape, as attnvar begins to train it."""
    with tempfile.TemporaryDirectory() as folder:
        attnvar("train", "--steps", "0", "--variant", "gqa", "--group-proportion", str(G / 8), "--context", str(positions),
                "--out", folder)
        return Model(folder)


def masks(m, T):
    """Of each layer [R T,T]: 0 where a query of a group's heads sees a key, -inf elsewhere."""
    i, j = torch.arange(T)[:, None], torch.arange(T)[None, :]
    return [torch.where((j <= i) & (j > i - (window or T)), 0.0, float("-inf")).repeat(m.R, 1) for window in m.windows]


def loss_of(m, ids, mask, way):
    """Cross entropy of ids [B,T], and the logits [B T,V]."""
    (B, T), kv = ids.shape, m.G * m.D

    def project(x, w, b=None):
        return linear(x, w.t() if way == MM else w, b, way)

    x = (F.embedding(ids, m.wte) + m.wpe[:T]).view(B * T, m.C)
    for (n1, b1, wo, bo, n2, b2, w1, c1, w2, c2, qkv), hidden in zip(m.layers(), mask):
        y = project(F.layer_norm(x, (m.C,), n1, b1), qkv)
        q = y[:, :m.S].view(B, T, m.G, m.R, m.D).permute(0, 2, 3, 1, 4).reshape(B * m.G, m.R * T, m.D)
        k, v = (part.view(B, T, m.G, m.D).transpose(1, 2).reshape(B * m.G, T, m.D) for part in y[:, m.S:].split(kv, 1))
        p = torch.softmax(torch.baddbmm(hidden.unsqueeze(0), q, k.transpose(1, 2)), -1)
        o = torch.bmm(p, v).view(B, m.G, m.R, T, m.D).permute(0, 3, 1, 2, 4).reshape(B * T, m.S)
        x = x + project(o, wo, bo)
        x = x + project(F.gelu(project(F.layer_norm(x, (m.C,), n2, b2), w1, c1), approximate="tanh"), w2, c2)
    logits = project(F.layer_norm(x, (m.C,), *m.norm), m.wte)
    targets = torch.cat([ids[:, 1:], torch.full((B, 1), -100)], 1)
    return F.cross_entropy(logits, targets.reshape(-1)), logits


# ---------------------------------------------------------------- decoding

def decode_step(ids: torch.Tensor, t: int, wte: torch.Tensor, wpe: torch.Tensor, norm: List[torch.Tensor],
                head: torch.Tensor, head_way: int, layers: List[List[torch.Tensor]], ways: List[List[int]],
                keys: List[torch.Tensor], values: List[torch.Tensor], windows: List[int], G: int, R: int, D: int,
                product: bool) -> torch.Tensor:
    """Logits [B,V] after one more token of each sequence, at position t; keys and values [B G,T,D]."""
    B, C = ids.size(0), wte.size(1)
    S, kv = G * R * D, G * D
    x = torch.index_select(wte, 0, ids).add_(wpe[t])
    for i in range(len(layers)):
        n1, b1, wo, bo, n2, b2, w1, c1, w2, c2, qkv = layers[i]
        way_o, way_1, way_2, way_qkv = ways[i]
        y = linear(F.layer_norm(x, [C], n1, b1), qkv, None, way_qkv)
        keys[i].view(B, G, -1, D).select(2, t).copy_(y[:, S:S + kv].view(B, G, D))
        values[i].view(B, G, -1, D).select(2, t).copy_(y[:, S + kv:].view(B, G, D))
        first = max(0, t + 1 - windows[i]) if windows[i] > 0 else 0
        k, v = keys[i][:, first:t + 1], values[i][:, first:t + 1]
        q = y[:, :S].reshape(B * G, R, D)
        if product:
            o = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v)
        else:
            p = torch.softmax((k.unsqueeze(1) * q.unsqueeze(2)).sum(-1), -1)
            o = (p.unsqueeze(-1) * v.unsqueeze(1)).sum(2)
        x = linear(o.view(B, S), wo, bo, way_o).add_(x)
        h = F.gelu(linear(F.layer_norm(x, [C], n2, b2), w1, c1, way_1), approximate="tanh")
        x = linear(h, w2, c2, way_2).add_(x)
    return linear(F.layer_norm(x, [C], norm[0], norm[1]), head, None, head_way)


class Decode:
    """A token for each sequence at contexts 1..T; of many sequences, at every so many of these."""
    unit = "tokens/s"

    @torch.inference_mode()
    def __init__(self, m, batch):
        every = (m.T * batch + 16383) // 16384
        self.contexts = range(m.T - (every - 1) // 2, 0, -every)
        self.batch, self.shape = batch, f"contexts 1..{m.T}, G={m.G}"
        self.command = ["--work", "decode", "--batch", str(batch), "--context", str(m.T), "--every", str(every),
                        "--repeats", "1", "--variant", "gqa", "--group-proportion", str(m.G / m.H)]
        self.m, self.layers, self.ways, names = m, list(m.layers()), [], []
        for w in self.layers:
            self.ways.append([])
            for i in 2, 6, 8, 10:
                w[i], way, name = prepared(w[i], batch)
                if way == ONEDNN and i < 10:
                    w[i + 1] = w[i + 1].to_mkldnn()
                self.ways[-1].append(way)
                names.append(name)
        self.head, self.head_way, head_name = prepared(m.wte, batch)
        self.keys, self.values = ([torch.randn(batch * m.G, m.T, m.D) for _ in m.windows] for _ in range(2))
        self.step, self.ids, took = torch.jit.script(decode_step), torch.randint(m.wte.shape[0], (m.T, batch)), []
        for self.product in False, True:
            for _ in range(3):                              # it is being optimised
                self(self.ids[0], m.T // 2)
            took.append(seconds(lambda: self(self.ids[0], m.T // 2)))
        self.product = took[1] <= took[0]
        attention = "bmm" if self.product else "multiply and add"
        self.way = f"{max(names, key=names.count)}; head {head_name}; attention {attention}"

    @torch.inference_mode()
    def __call__(self, ids, t):
        m = self.m
        return self.step(ids, t, m.wte, m.wpe, m.norm, self.head, self.head_way, self.layers, self.ways, self.keys,
                         self.values, m.windows, m.G, m.R, m.D, self.product)

    def torch(self):
        start = time.perf_counter()
        for context in self.contexts:
            self(self.ids[context - 1], context - 1)
        return self.batch * len(self.contexts) / (time.perf_counter() - start)


# ---------------------------------------------------------------- the same results

def check_results():
    """Logits, gradients and cached decoding of two small models, by torch in each way and by attnvar."""
    for name in "mha", "mqa":
        folder = os.path.join(TOP, "tests", "golden", name)
        ids = torch.from_file(os.path.join(folder, "input_ids.i32"), size=40, dtype=torch.int32).view(2, 20).long()
        m = Model(folder)
        with tempfile.NamedTemporaryFile() as f:
            what = [folder, "--ids", os.path.join(folder, "input_ids.i32"), "--shape", "2,20", "--out", f.name]
            attnvar("logits", *what)
            logits = torch.from_file(f.name, size=40 * m.wte.shape[0]).view(2, 20, -1).clone()
            attnvar("grad", *what)
            gradients = read_safetensors(f.name)
        for way in TRAIN_WAYS:
            for t in m.named.values():
                t.grad = None
                t.requires_grad_(True)
            loss, ours = loss_of(m, ids, masks(m, 20), way)
            loss.backward()
            agree(f"the logits of {name}", ours.view_as(logits), logits)
            for parameter, t in m.named.items():
                agree(f"the gradients of {name}", t.grad, gradients[parameter])
        decoder = Decode(Model(folder), 2)
        for decoder.product in True, False:
            steps = [decoder(ids[:, t].contiguous(), t) for t in range(20)]
            agree(f"the decoded logits of {name}", torch.stack(steps, 1), logits)


# ---------------------------------------------------------------- what is measured

class Matmul:
    """All matrices of the published shape one after the other."""
    unit, shape = "GFLOP/s", "all matrices"

    @torch.inference_mode()
    def __init__(self, rows):
        matrices = [w for name, w in published(1).named.items() if w.dim() == 2 and "wpe" not in name]
        self.batch, self.gflop = rows, sum(2e-9 * rows * w.numel() for w in matrices)
        self.all = [(torch.randn(rows, w.shape[1]), *prepared(w, rows)) for w in matrices]
        names = [name for *_, name in self.all]
        self.way = max(names, key=names.count)
        self.command = ["--work", "matmul", "--rows", str(rows), "--repeats", "5"]

    @torch.inference_mode()
    def torch(self):
        return self.gflop / seconds(lambda: [linear(x, w, None, way) for x, w, way, _ in self.all], 5, 0.2)


class Train:
    """Steps of 16 sequences of 512: forward, loss, backward, clipping, AdamW."""
    unit, shape, batch = "tokens/s", "T=512", 16
    command = ["--work", "train", "--train-batch", "16", "--length", "512", "--repeats", "1"]

    def __init__(self):
        self.m = published(512)
        self.ids, self.mask, self.all = torch.randint(10000, (16, 512)), masks(self.m, 512), list(self.m.named.values())
        for t in self.all:
            t.requires_grad_(True)
        self.adamw = torch.optim.AdamW(self.all, lr=1e-4, weight_decay=0.01, foreach=True)
        self.kind = min(TRAIN_WAYS, key=lambda way: seconds(lambda: self.step(way), 1))
        self.way = "oneDNN" if self.kind == ONEDNN else "mm"

    def step(self, way):
        self.adamw.zero_grad(set_to_none=True)
        loss_of(self.m, self.ids, self.mask, way)[0].backward()
        torch.nn.utils.clip_grad_norm_(self.all, 1.0)
        self.adamw.step()

    def torch(self):
        start = time.perf_counter()
        self.step(self.kind)
        return 16 * 512 / (time.perf_counter() - start)


CASES = [("matmul", lambda rows=rows: Matmul(rows)) for rows in (16, 64, 512)] + \
    [("decode", lambda G=G, batch=batch: Decode(published(256, G), batch)) for G in (8, 1) for batch in (1, 16, 512)] + \
    [("train", Train)]


def blas():
    """The file behind mm."""
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))
    with open("/proc/self/maps", encoding="utf-8") as f:
        files = {line.split()[-1] for line in f if ".so" in line}
    names = sorted(x for x in files if any(part in os.path.basename(x) for part in ("blas", "blis", "mkl_core")))
    return names[-1] if names else "its own"


def main():
    torch.manual_seed(1)
    check_results()
    print(f"torch {torch.__version__} and attnvar compute the same", flush=True)
    if OPTIONS.check:
        return
    print(f"{OPTIONS.threads} threads, medians of {OPTIONS.rounds}, torch's BLAS {blas()}\n")
    print(f"{'work':7} {'shape':21} {'batch':>5} {'torch':>9} {'attnvar':>9} {'unit':8} {'times':>6}  torch's best way")
    for work, make in CASES:
        if work not in OPTIONS.work.split(","):
            continue
        case, pairs = make(), []
        sides = [case.torch, lambda: json.loads(attnvar("bench", "--json", *case.command).split("\n")[0])["value"]]
        for turn in range(OPTIONS.rounds):
            pairs.append([0.0, 0.0])
            for who in (0, 1) if turn % 2 == 0 else (1, 0):
                pairs[-1][who] = sides[who]()
        torchs, ours, times = (statistics.median(x) for x in zip(*[(a, b, b / a) for a, b in pairs]))
        print(f"{work:7} {case.shape:21} {case.batch:5} {torchs:9.1f} {ours:9.1f} {case.unit:8} {times:6.2f}  {case.way}",
              flush=True)


if __name__ == "__main__":
    main()
