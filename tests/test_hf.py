#!/usr/bin/env python3
"""Interchange with Hugging Face's libraries: tests/test_hf.py [build/attnvar], with a Python that has torch, transformers,
tokenizers and safetensors. Prints a line for each check that fails, then how many passed. Nothing is fetched; models, texts
and tokenizers are made here, and small. Classifiers need build/tests/hf_classify (tests/hf_classify.c) beside the program.

Logits count as equal when they differ by less than 1e-4 of the largest: both sides compute in fp32, the models' weights are
N(0, 0.25), so that scores, which GPT-Neo does not scale, are large, and rounding shows at some 1e-6. Weights in files, ids,
greedy continuations and decoded texts must be the same.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unicodedata
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
ATTNVAR = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "build", "attnvar"))
CLASSIFY = os.path.join(os.path.dirname(ATTNVAR), "tests", "hf_classify")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false",
                  HF_HUB_DISABLE_PROGRESS_BARS="1")
warnings.simplefilter("ignore")
try:
    import numpy as np
    import safetensors.numpy
    import safetensors.torch
    import tokenizers
    import torch
    import transformers
    from transformers import AutoTokenizer, GPT2TokenizerFast, GPTNeoConfig, GPTNeoForCausalLM, \
        GPTNeoForSequenceClassification, GPTNeoModel
except ImportError as error:
    print(f"SKIPPED: interchange with Hugging Face: {sys.executable}: {error}")
    print("hf: 0 passed, 0 failed, 1 skipped")
    sys.exit(0)
sys.path.insert(0, os.path.join(HERE, "..", "tools"))
sys.dont_write_bytecode = True
try:
    from attnvar_hf import AttnvarForCausalLM
except ImportError as error:
    AttnvarForCausalLM = None
    without_variants = error

TOLERANCE = 1e-4
counts = {"passed": 0, "failed": 0, "skipped": 0}
scratch = tempfile.TemporaryDirectory()


def ok(holds, what):
    counts["passed" if holds else "failed"] += 1
    if not holds:
        print(f"FAILED: {what}", flush=True)
    return bool(holds)


def skip(what):
    counts["skipped"] += 1
    print(f"SKIPPED: {what}", flush=True)


def near(what, have, want):
    have, want = have.double(), want.double()
    difference = (have - want).abs().max().item() / max(want.abs().max().item(), 1e-30)
    ok(difference < TOLERANCE, f"{what}: differs by {difference:.3g} of the largest")


def path(*names):
    return os.path.join(scratch.name, *names)


def folder(name):
    os.makedirs(path(name), exist_ok=True)
    return path(name)


def attnvar(*words, text=None):
    run = subprocess.run([ATTNVAR, *words], input=text, capture_output=True, encoding="utf-8")
    if run.returncode:
        raise RuntimeError(f"attnvar {' '.join(words)}: exit code {run.returncode}: {run.stderr.strip()}")
    return run.stdout


def refused(what, piece, *words):
    run = subprocess.run([ATTNVAR, *words], capture_output=True, encoding="utf-8")
    ok(run.returncode == 1 and piece in run.stderr, f"{what}: exit code {run.returncode}, no '{piece}' in: {run.stderr}")


def raises(what, piece, call):
    try:
        call()
    except ValueError as error:
        ok(piece in str(error), f"{what}: no '{piece}' in: {error}")
        return
    ok(False, f"{what}: not refused")


def write_json(name, value):
    with open(name, "w", encoding="utf-8") as f:
        json.dump(value, f)


def read_json(name):
    with open(name, encoding="utf-8") as f:
        return json.load(f)


# ---------------------------------------------------------------- models

def draw(model):
    """Weights that make all that a model does show."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(1.0 if ".ln_" in name and name.endswith("weight") else 0.0, 0.25)
    return model.eval()


def draw_ids(config, rows, length):
    ids = torch.randint(config.vocab_size, (rows, length))
    ids.numpy().astype("<i4").tofile(path("ids"))
    return ids, ["--ids", path("ids"), "--shape", f"{rows},{length}"]


def our_logits(where, raw, ids):
    attnvar("logits", where, *raw, "--out", path("logits"))
    return torch.from_numpy(np.fromfile(path("logits"), "<f4").reshape(*ids.shape, -1))


def their_logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


def our_greedy(where, prompt, n):
    words = attnvar("generate", where, "--ids", ",".join(map(str, prompt)), "--tokens", str(n), "--greedy", "--ignore-eos")
    return [int(x) for x in words.split()]


def their_greedy(model, prompt, n, use_cache):
    """The tokens, and how many of them before one that is the likeliest by so little that rounding may decide."""
    model.generation_config.eos_token_id = None
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=False, use_cache=use_cache,
                         pad_token_id=0, return_dict_in_generate=True, output_scores=True)
    best = torch.cat(out.scores).topk(2).values
    close = best[:, 0] - best[:, 1] < TOLERANCE * torch.cat(out.scores).abs().amax(1)
    return out.sequences[0, len(prompt):].tolist(), close.tolist().index(True) if close.any() else n


def compare(what, where, model, rows=2, length=None, new=20):
    """Logits, and greedy continuations with and without their cache."""
    T = model.config.max_position_embeddings
    ids, raw = draw_ids(model.config, rows, length or T)
    near(f"{what}: logits", our_logits(where, raw, ids), their_logits(model, ids))
    prompt = ids[0, :T // 3].tolist()
    ours = our_greedy(where, prompt, new)
    for use_cache in True, False:
        theirs, sure = their_greedy(model, prompt, new, use_cache)
        ok(len(theirs) == len(ours) == new and ours[:sure] == theirs[:sure],
           f"{what}: greedy, use_cache={use_cache}, {sure} surely: {ours} are not {theirs}")


def compare_gradients(what, where, model, ids, raw):
    model.zero_grad()
    loss = model(ids, labels=ids).loss
    loss.backward()
    told = json.loads(attnvar("grad", where, *raw, "--out", path("grads"), "--json"))
    ok(abs(told["loss"] - loss.item()) < 1e-5 * loss.item(), f"{what}: loss: {told['loss']}, not {loss.item()}")
    gradients = safetensors.torch.load_file(path("grads"))
    named = dict(model.named_parameters())
    ok(gradients.keys() == named.keys(), f"{what}: gradients of {sorted(gradients)}, not of {sorted(named)}")
    largest = max(p.grad.abs().max() for p in named.values())
    for name in gradients.keys() & named.keys():
        if named[name].grad.any():
            near(f"{what}: gradient of {name}", gradients[name], named[name].grad)
        else:                                               # a window of 1 has one weight, whatever the score
            ok(gradients[name].abs().max() < 1e-6 * largest, f"{what}: gradient of {name} is not 0")


# C hidden, H heads, F intermediate (None: 4 C), layers, W window, V vocabulary, T positions.
SHAPES = [
    dict(C=32, H=1, F=None, layers="gl", W=5, V=61, T=40), dict(C=32, H=4, F=48, layers="gl", W=7, V=97, T=40),
    dict(C=48, H=8, F=100, layers="lgl", W=1, V=50, T=33), dict(C=40, H=8, F=17, layers="gg", W=256, V=131, T=64),
    dict(C=36, H=3, F=36, layers="llll", W=9, V=30, T=70),
]


def neo_config(s, **more):
    kinds = [{"g": "global", "l": "local"}[x] for x in s["layers"]]
    return GPTNeoConfig(vocab_size=s["V"], max_position_embeddings=s["T"], hidden_size=s["C"], num_layers=len(kinds),
                        attention_types=[[kinds, 1]], num_heads=s["H"], intermediate_size=s["F"], window_size=s["W"],
                        bos_token_id=0, eos_token_id=0, **more)


def same_config(what, one, other):
    one, other = [GPTNeoConfig.from_pretrained(x).to_dict() for x in (one, other)]
    for key in one.keys() | other.keys():
        if key not in ("_name_or_path", "transformers_version"):
            ok(one.get(key) == other.get(key), f"{what}: config.json: {key}={other.get(key)}, not {one.get(key)}")


def theirs_here():
    """Models that transformers makes and saves."""
    for s in SHAPES:
        what = f"made there, {s}"
        model = draw(GPTNeoForCausalLM(neo_config(s)))
        model.save_pretrained(folder("plain"))
        compare(what, path("plain"), model)
        shutil.rmtree(folder("shards"))
        model.save_pretrained(path("shards"), max_shard_size="20KB")
        ok(not os.path.exists(path("shards", "model.safetensors")), f"{what}: no shards")
        compare(f"{what}, in shards", path("shards"), model)
        for dtype in torch.bfloat16, torch.float16:
            GPTNeoForCausalLM.from_pretrained(path("plain"), torch_dtype=dtype).save_pretrained(folder("half"))
            ok(safetensors.torch.load_file(path("half", "model.safetensors"))["transformer.wte.weight"].dtype == dtype,
               f"{what}: {dtype} was not saved as such")
            rounded = GPTNeoForCausalLM.from_pretrained(path("half"), torch_dtype=torch.float32)
            compare(f"{what}, {dtype}", path("half"), rounded)

    s = SHAPES[1]
    rare = dict(layer_norm_epsilon=3e-4, initializer_range=0.3, resid_dropout=0.1, embed_dropout=0.125, use_cache=False,
                classifier_dropout=0.5, id2label={0: "é", 1: "\n"}, note={"deep": [1, {"er": None}]})
    model = draw(GPTNeoForCausalLM(neo_config(s, **rare)))
    model.save_pretrained(folder("rare"))
    compare("a rare config", path("rare"), model)
    attnvar("convert", path("rare"), "--out", path("again"))
    compare("a rare config, there and back", path("again"), GPTNeoForCausalLM.from_pretrained(path("again")).eval())
    same_config("a rare config", path("rare"), path("again"))

    model = draw(GPTNeoForCausalLM(neo_config(s)))
    model.save_pretrained(folder("plain"))
    ids, raw = draw_ids(model.config, 2, s["T"])
    ours, wider = our_logits(path("plain"), raw, ids), neo_config({**s, "W": s["W"] + 1})
    other = GPTNeoForCausalLM(wider)
    other.load_state_dict(model.state_dict())
    ok((their_logits(other.eval(), ids) - ours).abs().max() > 100 * TOLERANCE * ours.abs().max(),
       "a window one longer does not show, so the comparisons say nothing about windows")

    compare_gradients("made there", path("plain"), model, ids, raw)

    base = draw(GPTNeoModel(neo_config(s)))
    base.save_pretrained(folder("base"))
    with torch.no_grad():
        want = base(ids).last_hidden_state @ base.wte.weight.T
    near("a GPTNeoModel, without head", our_logits(path("base"), raw, ids), want)
    for name, value in ("tie_word_embeddings", False), ("activation_function", "relu"):
        GPTNeoForCausalLM(neo_config(s, **{name: value})).save_pretrained(folder("other"))
        refused(f"{name}={value}", name, "logits", path("other"), *raw, "--out", path("x"))
    shutil.rmtree(path("other"))
    model.config.save_pretrained(path("other"))
    torch.save(model.state_dict(), path("other", "pytorch_model.bin"))
    refused("a pickle", "only safetensors are read", "logits", path("other"), *raw, "--out", path("x"))


def write_text(name):
    """Small documents, the same each time."""
    r = random.Random(5)
    with open(name, "w", encoding="utf-8") as f:
        for _ in range(150):
            for _ in range(r.randint(1, 5)):
                words = ["The A Her", "red big sad shy café naïve 日本 😀", "cat dog fox hen",
                         "sings runs doesn’t can't he'd I'm it's we're we'll they've",
                         "dares 'dare' tells 'tell' more 'more' so 'so' really 'really' very 'very' llamas 'llama'"]
                f.write(" ".join(r.choice(w.split()) for w in words) + f" {r.randint(0, 2000)} times. ")
            f.write("\n<|endoftext|>\n")
    return name


SMALL = ["--hidden", "32", "--heads", "4", "--context", "48", "--window", "8", "--ffn-base", "64"]
RECIPE = ["--vocab", "400", "--lr", "1e-2", "--batch", "8"]


def ours_there():
    """A model trained here, in transformers and back."""
    text = write_text(path("text"))
    attnvar("train", "--data", text, *SMALL, *RECIPE, "--layers", "3", "--steps", "30", "--out", path("trained"))
    model, loading = GPTNeoForCausalLM.from_pretrained(path("trained"), output_loading_info=True)
    ok(not any(loading.values()), f"a model trained here: {loading}")
    compare("a model trained here", path("trained"), model.eval(), 3)

    model = GPTNeoForCausalLM.from_pretrained(path("trained")).eval()       # generating has changed its settings
    tokenizer = AutoTokenizer.from_pretrained(path("trained"))
    given = tokenizer("The red cat", return_tensors="pt")
    ok(set(given) == {"input_ids", "attention_mask"}, f"the tokenizer gives the model {sorted(given)}")
    ids = given["input_ids"][:, :-1]                        # without the token that ends a document
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
    theirs = "The red cat" + tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True)
    ours = attnvar("generate", path("trained"), "--prompt", "The red cat", "--tokens", "20", "--greedy")
    ok(ours == theirs + "\n", f"a prompt continued: {ours!r} is not {theirs!r}")

    model.save_pretrained(folder("back"))
    attnvar("convert", path("back"), "--out", path("again"))
    ids, raw = draw_ids(model.config, 2, 48)
    ok(torch.equal(our_logits(path("trained"), raw, ids), our_logits(path("back"), raw, ids)), "logits, there and back")
    same_config("there", path("trained"), path("back"))
    same_config("there and back", path("trained"), path("again"))

    tokenizer.save_pretrained(path("back"))                 # a whole directory of theirs, trained on here
    attnvar("train", "--model", path("back"), "--data", text, "--steps", "4", "--batch", "8", "--out", path("further"))
    model = GPTNeoForCausalLM.from_pretrained(path("further")).eval()
    ok(not torch.equal(model.transformer.wte.weight, GPTNeoForCausalLM.from_pretrained(path("back")).transformer.wte.weight),
       "training on has changed nothing")
    compare("theirs, trained on here", path("further"), model)
    later = AutoTokenizer.from_pretrained(path("further"))
    with open(text, encoding="utf-8") as f:
        sample = f.read()[:3000]
    ok(later(sample)["input_ids"] == tokenizer(sample)["input_ids"], "the tokenizer of theirs, trained on here")


# ---------------------------------------------------------------- shapes of our own

# Fields beside those of GPT-Neo; the shapes of SHAPES otherwise.
VARIANTS = {
    "mha": dict(C=24, H=3, F=20, layers="gl", W=5, dtype="float32"),
    "mqa": dict(C=24, H=4, F=20, layers="lg", W=6, num_key_value_heads=1),
    "gqa .75, uneven": dict(C=32, H=8, F=30, layers="gl", W=4, num_key_value_heads=6),
    "gqa 3 of 5": dict(C=25, H=5, F=8, layers="gl", W=4, num_key_value_heads=3),
    "kqv": dict(C=24, H=4, F=30, layers="gl", W=7, kqv_size=12),
    "kqv, no multiple": dict(C=19, H=3, F=14, layers="gl", W=3, kqv_size=15, num_key_value_heads=2),
    "wider": dict(C=16, H=4, F=14, layers="gl", W=3, kqv_size=32),
    "combined": dict(C=32, H=8, F=40, layers="gl", W=5, kqv_size=16, num_key_value_heads=4),
    "kv_of_head, an empty group": dict(C=24, H=4, F=11, layers="gl", W=5, num_key_value_heads=3, kv_of_head=[2, 0, 0, 2]),
    "kv_of_layer": dict(C=24, H=4, F=10, layers="lggll", W=4, num_key_value_heads=3, kv_of_layer=[0, 0, 2, 0, 2]),
    "windows": dict(C=24, H=4, F=10, layers="lgll", W=4, windows=[4, 0, 9, 1]),
    "layers": dict(C=20, H=5, F=12, layers="lgll", W=6, num_key_value_heads=2, kqv_size=20, layers_=[
        dict(num_heads=5, num_key_value_heads=2, head_dim=4, value_dim=7, intermediate_size=12, window_size=6, kv_layer=0),
        dict(num_heads=3, num_key_value_heads=3, head_dim=5, value_dim=2, intermediate_size=31, window_size=0, kv_layer=1,
             kv_of_head=[2, 0, 1]),
        dict(num_heads=7, num_key_value_heads=2, head_dim=4, value_dim=7, intermediate_size=9, window_size=11, kv_layer=0),
        dict(num_heads=2, num_key_value_heads=1, head_dim=9, intermediate_size=12, window_size=3)]),
}


def variant_config(v):
    config = neo_config({"V": 43, "T": 36, **v})
    for key, value in v.items():
        if key not in SHAPES[0]:
            setattr(config, key.rstrip("_"), value)
    return config


def variants():
    """tools/attnvar_hf.py: every variant to attnvar, as attnvar writes it, and back."""
    if AttnvarForCausalLM is None:
        skip(f"tools/attnvar_hf.py: {without_variants}")
        return
    for name, v in VARIANTS.items():
        model = draw(AttnvarForCausalLM(variant_config(v)))
        model.save_pretrained(folder("made"))
        compare(f"{name}, made there", path("made"), model)
        compare_gradients(f"{name}, made there", path("made"), model, *draw_ids(model.config, 2, 36))
        attnvar("convert", path("made"), "--out", path("ours"))
        ours = AttnvarForCausalLM.from_pretrained(path("ours"))
        compare(f"{name}, written here", path("ours"), ours)
        state = model.state_dict()
        ok(all(torch.equal(t, state[key]) for key, t in ours.state_dict().items()), f"{name}: weights")
        ids, part = torch.randint(1, 43, (2, 14)), None     # in parts
        whole = their_logits(ours, ids)
        for start, end in (0, 5), (5, 9), (9, 14):
            with torch.no_grad():
                part = ours(ids[:, start:end], past_key_values=part and part.past_key_values, use_cache=True)
            near(f"{name}: logits {start} to {end}", part.logits, whole[:, start:end])
        ids = torch.randint(1, 43, (2, 9))                  # in a batch with padding, in beams
        ids[1, :4] = 0
        how = dict(max_new_tokens=15, do_sample=False, pad_token_id=0, num_beams=3)
        cached, anew = [ours.generate(ids, attention_mask=(ids != 0).long(), use_cache=use_cache, **how)[:, 9:]
                        for use_cache in (True, False)]
        alone = ours.generate(ids[1:, 4:], attention_mask=torch.ones(1, 5).long(), **how)[:, 5:]
        ok(torch.equal(cached, anew) and torch.equal(cached[1:], alone), f"{name}: beams {cached}, {anew}, {alone}")

    for name, words in [("mha", []), ("mqa", []), ("gqa", ["--group-proportion", ".75"]),
                        ("kqv", ["--kqv-proportion", ".5"]),
                        ("combined", ["--group-proportion", ".5", "--kqv-proportion", ".25"])]:
        attnvar("train", "--data", path("text"), *SMALL, *RECIPE, "--variant", name, *words, "--steps", "8", "--out",
                path(name))
        model = AttnvarForCausalLM.from_pretrained(path(name))
        compare(f"{name}, trained here", path(name), model)
    command = [sys.executable, os.path.join(HERE, "..", "tools", "attnvar_hf.py"), path("gqa")]
    for words in ["--prompt", "The red"], ["--ids", "1,30,40"]:
        theirs = subprocess.run([*command, *words, "--tokens", "15"], capture_output=True, encoding="utf-8")
        ours = attnvar("generate", path("gqa"), *words, "--tokens", "15", "--greedy")
        ok(theirs.stdout == ours, f"attnvar_hf.py {words}: {theirs.stdout!r}, not {ours!r}: {theirs.stderr[-500:]}")
    for what, where in ("cut", "model.safetensors"), ("shape", "config.json"):
        shutil.copytree(path("gqa"), path(what))
        with open(os.path.join(path(what), where), "rb+") as file:
            text = file.read().replace(b'"vocab_size": ', b'"vocab_size": 1')[:1000 if what == "cut" else None]
            file.seek(0), file.truncate(), file.write(text)
    for words, said in [([path("none"), "--ids", "1"], "none is no folder"), ([path("cut"), "--ids", "1"], "cut: "),
                        ([path("shape"), "--ids", "1"], "shape: "), ([path("gqa"), "--ids", "1,-1"], "-1 to 1"),
                        ([path("gqa"), "--ids", ""], "--ids"), ([path("gqa"), "--ids", "1", "--tokens", "0"], "--tokens"),
                        ([path("gqa"), "--ids", ",".join(["1"] * 200)], "200 ids")]:
        run = subprocess.run([*command[:2], *words], capture_output=True, encoding="utf-8")
        ok(run.returncode in (1, 2) and said in run.stderr and "Traceback" not in run.stderr,
           f"attnvar_hf.py {words}: {run.returncode}, {run.stderr[-500:]!r}, not {said!r}")
    attnvar("convert", path("gqa"), "--out", path("gqa.bf16"), "--dtype", "bf16")
    np.array([1, 30, 40], "<i4").tofile(path("ids"))
    for where in path("gqa"), path("gqa.bf16"):             # fp32 is computed in all the same
        run = subprocess.run([*command[:2], where, "--ids", "1,30,40", "--logits"], capture_output=True, encoding="utf-8")
        want = our_logits(where, ["--ids", path("ids"), "--shape", "1,3"], torch.empty(1, 3))
        have = torch.tensor([[[float(x) for x in line.split()] for line in run.stdout.splitlines()]])
        near(f"attnvar_hf.py --logits of {os.path.basename(where)}", have, want)

    good, L = VARIANTS["gqa .75, uneven"], VARIANTS["layers"]["layers_"]
    for what, piece, change in [("an unknown field", "rope_theta", dict(rope_theta=1e4)),
                                ("a head too far", "kv_of_head", dict(kv_of_head=[0, 1, 2, 3, 4, 5, 6, 0])),
                                ("a negative head", "kv_of_head", dict(kv_of_head=[0, 1, 2, 3, 4, 5, -1, 0])),
                                ("an indivisible width", "kqv_size=30", dict(kqv_size=30)),
                                ("a later owner", "kv_layer=1", dict(kv_of_layer=[1, 1])),
                                ("too few windows", "num_layers", dict(windows=[3])),
                                ("an unknown field of a layer", "sink", dict(layers_=[dict(L[0], sink=1), L[1]])),
                                ("a layer without heads", "num_heads", dict(layers_=[dict(head_dim=3), L[1]])),
                                ("another owner's shape", "other shapes", dict(layers_=[L[0], dict(L[1], kv_layer=0)]))]:
        raises(what, piece, lambda: AttnvarForCausalLM(variant_config({**good, **change})))
    raises("another attention", "Flash Attention", lambda: AttnvarForCausalLM.from_pretrained(
        path("gqa"), attn_implementation="flash_attention_2"))
    tensors = safetensors.torch.load_file(path("gqa", "model.safetensors"))
    shutil.copytree(path("gqa"), path("less"))
    attention = "transformer.h.1.attn.attention."
    for what, changed in [("missing", {k: t for k, t in tensors.items() if k != attention + "k_proj.weight"}),
                          ("unexpected", {**tensors, attention + "q_proj.bias": torch.zeros(32)})]:
        safetensors.torch.save_file(changed, path("less", "model.safetensors"), {"format": "pt"})
        raises(f"{what} weights", what, lambda: AttnvarForCausalLM.from_pretrained(path("less")))


# ---------------------------------------------------------------- classifiers

def classify(*words):
    run = subprocess.run([CLASSIFY, *words], capture_output=True, encoding="utf-8")
    if run.returncode:
        raise RuntimeError(f"hf_classify {' '.join(words)}: exit code {run.returncode}: {run.stderr.strip()}")


def compare_classifier(what, where, model):
    """Logits, loss and gradients of sequences of different lengths, laid end to end here and padded there."""
    lengths, N, pad = [17, 1, 40, 9, 40], model.config.num_labels, model.config.pad_token_id
    rows = [torch.randint(1, model.config.vocab_size, (length,)) for length in lengths]    # no padding within a text
    torch.cat(rows).numpy().astype("<i4").tofile(path("ids"))
    classify("run", where, path("ids"), path("out"), *map(str, lengths))
    ours = safetensors.torch.load_file(path("out"))
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    model.zero_grad()
    theirs = model(ids, labels=torch.arange(len(rows)) % N)
    theirs.loss.backward()
    near(f"{what}: logits", ours.pop("logits"), theirs.logits.detach())
    near(f"{what}: loss", ours.pop("loss"), theirs.loss.detach())
    gradients = {name: p.grad for name, p in model.named_parameters()}
    ok(ours.keys() == gradients.keys(), f"{what}: gradients of {sorted(ours)}, not of {sorted(gradients)}")
    for name in ours.keys() & gradients.keys():
        near(f"{what}: gradient of {name}", ours[name], gradients[name])


def classifiers():
    if not os.path.exists(CLASSIFY):
        skip(f"classifiers: there is no {CLASSIFY}: make build/tests/hf_classify")
        return
    s = dict(SHAPES[1], V=97, T=40)
    for names in ["LABEL_0", "LABEL_1"], ["no", "é", '"', "d", "e"]:
        N = len(names)
        config = neo_config(s, pad_token_id=0, id2label=dict(enumerate(names)), problem_type="single_label_classification",
                            label2id={name: i for i, name in enumerate(names)})
        model = draw(GPTNeoForSequenceClassification(config))
        model.score.weight.data *= 0.1                      # a loss near 0 would be rounding's
        model.save_pretrained(folder("class"))
        compare_classifier(f"{N} labels, made there", path("class"), model)
        attnvar("convert", path("class"), "--out", path("converted"))
        same_config(f"{N} labels", path("class"), path("converted"))
        back = GPTNeoForSequenceClassification.from_pretrained(path("converted")).eval()
        compare_classifier(f"{N} labels, there and back", path("converted"), back)
        ok(list(back.config.id2label.values()) == names, f"names of labels: {back.config.id2label}")
        classify("make", path("trained"), folder("new"), str(N))
        model, loading = GPTNeoForSequenceClassification.from_pretrained(path("new"), output_loading_info=True)
        ok(not any(loading.values()) and model.config.num_labels == N, f"{N} labels, made here: {loading}")
        ok(model.config.task_specific_params == {"text-classification": {"max_length": 33, "add_special_tokens": True}},
           f"its task: {model.config.task_specific_params}")
        compare_classifier(f"{N} labels, made here", path("new"), model.eval())
        model.save_pretrained(folder("again"))
        told = attnvar("inspect", path("again"))
        ok("max_length 33\nwrap 1\n" in told, f"there and back its task is lost: {told}")
    GPTNeoForSequenceClassification(neo_config(s, num_labels=1)).save_pretrained(folder("one label"))
    refused("regression", "num_labels", "convert", path("one label"), "--out", path("x"))
    refused("a continued classifier", "num_labels", "generate", path("class"), "--ids", "1,2")


# ---------------------------------------------------------------- safetensors

def same_bits(a, b):
    bits = torch.int32 if a.element_size() == 4 else torch.int16
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(bits), b.view(bits))


def files():
    """safetensors: all 65,536 halves of either kind, and as many floats of every size, through both libraries."""
    config = neo_config(dict(C=256, H=8, F=3, layers="gl", W=5, V=1024, T=8))
    config.save_pretrained(folder("file"))
    floats = torch.randint(-2**31, 2**31, (1024, 256)).to(torch.int32).view(torch.float32)
    edges = torch.tensor([0.0, -0.0, 65504.0, 65519.996, 65520.0, 3.38953139e38, 3.4e38, 1e-40, -1e-45, 2**-24, 2**-25,
                          2**-25 * 1.0001, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, -np.inf])
    floats.view(-1)[:len(edges)] = edges
    halves = torch.arange(-2**15, 2**15, dtype=torch.int32).to(torch.int16).repeat(4).view(1024, 256)
    model = draw(GPTNeoForCausalLM(config))
    state = {k: t.clone() for k, t in model.state_dict().items() if k != "lm_head.weight"}
    names = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
    for dtype, values in [(torch.float32, floats), (torch.bfloat16, halves.view(torch.bfloat16)),
                          (torch.float16, halves.view(torch.float16)), (torch.float64, floats.double() * (1 + 2**-30))]:
        there = {k: t.to(dtype) for k, t in state.items()}
        there["transformer.wte.weight"] = torch.where(values.isnan(), torch.zeros((), dtype=dtype), values)
        there["transformer.wpe.weight"] = state["transformer.wpe.weight"]       # dtypes may be mixed
        safetensors.torch.save_file(there, path("file", "model.safetensors"), {"format": "pt", "made by": "a \"test\" é"})
        told = json.loads(attnvar("inspect", path("file"), "--json"))["tensors"]
        with safetensors.safe_open(path("file", "model.safetensors"), "pt") as f:
            ok(told == {k: list(f.get_slice(k).get_shape()) for k in f.keys()}, f"{dtype}: inspect tells {told}")
        for to, name in names.items():
            attnvar("convert", path("file"), "--out", path("converted"), "--dtype", name)
            here = safetensors.torch.load_file(path("converted", "model.safetensors"))
            ok(here.keys() == there.keys(), f"{dtype} to {to}: tensors {sorted(here)}")
            for key in here.keys() & there.keys():
                want = there[key].float().to(to)
                ok(same_bits(here[key], want), f"{dtype} to {to}: {key}: {(here[key] != want).sum()} values differ")
            with safetensors.safe_open(path("converted", "model.safetensors"), "pt") as f:
                ok(f.metadata() == {"format": "pt"}, f"metadata {f.metadata()}")
                ok(all(torch.equal(f.get_tensor(k), here[k]) for k in f.keys()), "safe_open and load_file differ")
            if to != torch.bfloat16:                        # numpy has none
                by_numpy = safetensors.numpy.load_file(path("converted", "model.safetensors"))
                ok(all(np.array_equal(by_numpy[k], here[k].numpy()) for k in here), f"{name} by numpy")
            model = GPTNeoForCausalLM.from_pretrained(path("converted"), torch_dtype="auto")
            ok(model.dtype == to, f"{name}: config.json says {model.dtype}")


# ---------------------------------------------------------------- tokenizers

SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
# tokenizers' regular expressions know Unicode 14 or later, and so does Python from 3.11 on; what came later is not drawn
ASSIGNED = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
BY_PLANE = [[c for c in ASSIGNED if c >> 16 == plane] for plane in range(17)]
PIECES = [
    "the", " cat", "It's", "'re", "'LL", "’s", "can't've", "'d", "'dares", "'tells", "'more", "'so", "'really", "'very",
    "'llamas", "'rx", "'", "''s", "12", "3.14", "½", "²", "٣", "Ⅷ", "é", "e\u0301", "\u0301\u0300", "ñandú", "straße",
    "日本語", "한국어", "שָׁלוֹם", "مرحبا", "\u202eאבג\u202c", "\u200f", "😀",
    "👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "👍🏽", "🇩🇪", "\u200b", "\ufeff", "\u00a0", "\u2003", "\u3000", "\u1680",
    "\u0085", "\u2028", "\x1c", "\x00", "\x07", "\x1b[0m", "\x7f", "\x80", "\x9f", "\ud7ff", "\ue000", "\ufffd", "\ufffe",
    "\uffff", "\U00010000", "\U0010ffff", "\u00ad", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\t\t ", "\v\f",
    "<s>", "</s>", "<mask>", " <mask> ", "<pad>", "<unk>", "<s", "s>", "<<s>>", "<|endoftext|>", "Ġ", "Ċ", '"', "\\", "\\n",
    "_", "a_b", "---", "...", "#!", "a" * 40, "  " * 30, "ab" * 20]


def draw_text(r):
    kind = r.random()
    if kind < 0.3:
        return "".join(r.choice(PIECES) for _ in range(r.randint(0, 12)))
    if kind < 0.5:
        return "".join(chr(r.choice(r.choice([p for p in BY_PLANE if p]))) for _ in range(r.randint(1, 20)))
    if kind < 0.7:
        return "".join(r.choice(PIECES) if r.random() < 0.5 else chr(r.choice(BY_PLANE[0])) for _ in range(r.randint(1, 15)))
    if kind < 0.8:
        return "".join(chr(r.randrange(0x180)) for _ in range(r.randint(1, 30)))
    if kind < 0.9:
        return "".join(r.choice(" \t\n\r\u00a0\u2003ab1.") for _ in range(r.randint(1, 25)))
    return " ".join(r.choice("The A red big sad shy cat dog fox sings runs café 日本 doesn't 17 2000 times.".split())
                    for _ in range(r.randint(1, 20)))


def compare_texts(what, where, encode, decode, texts):
    """encode(text) -> ids, decode(ids) -> text."""
    lines = "".join(json.dumps(text, ensure_ascii=i % 2 == 0) + "\n" for i, text in enumerate(texts))
    ours = [json.loads(line) for line in attnvar("tokenize", where, "--json", text=lines).split("\n")[:-1]]
    theirs = [encode(text) for text in texts]
    wrong = [i for i in range(len(texts)) if ours[i] != theirs[i]]
    ok(len(ours) == len(texts) and not wrong, f"{what}: {len(wrong)} of {len(texts)} texts: " + " ".join(
        f"{texts[i]!r} is {ours[i]}, not {theirs[i]}" for i in wrong[:2]))
    r, seen = random.Random(9), sorted(set().union(*theirs))
    ids = theirs + [r.choices(seen, k=r.randint(1, 12)) for _ in range(500)]    # most of these are no UTF-8
    lines = "".join(json.dumps(line) + "\n" for line in ids)
    ours = [json.loads(line) for line in attnvar("tokenize", where, "--decode", "--json", text=lines).split("\n")[:-1]]
    wrong = [i for i in range(len(ids)) if ours[i] != decode(ids[i])]
    ok(len(ours) == len(ids) and not wrong, f"{what}, decoded: {len(wrong)} of {len(ids)}: " + " ".join(
        f"{ids[i]} is {ours[i]!r}, not {decode(ids[i])!r}" for i in wrong[:2]))


def both(t):
    """Of a tokenizers.Tokenizer."""
    return lambda text: t.encode(text, add_special_tokens=False).ids, lambda ids: t.decode(ids, skip_special_tokens=False)


def both_fast(t):
    """Of a tokenizer of transformers."""
    return (lambda text: t(text, add_special_tokens=False)["input_ids"],
            lambda ids: t.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def texts_agree():
    r = random.Random(7)
    texts = ["", " ", "\n", "a", "<s>"] + [draw_text(r) for _ in range(1995)]
    with open(path("text"), encoding="utf-8") as f:
        corpus = f.read()

    where = path("trained")                                 # trained here
    t = tokenizers.Tokenizer.from_file(os.path.join(where, "tokenizer.json"))
    compare_texts("ours, tokenizers", where, *both(t), texts)
    for kind in AutoTokenizer, GPT2TokenizerFast:
        t = kind.from_pretrained(where)
        compare_texts(f"ours, {kind.__name__}", where, *both_fast(t), texts)
        named = [t.bos_token, t.eos_token, t.pad_token, t.unk_token, t.mask_token]
        ok(named == ["<s>", "</s>", "<pad>", "<unk>", "<mask>"], f"ours, {kind.__name__}: special tokens {named}")
        config = read_json(os.path.join(where, "config.json"))
        ok([t.bos_token_id, t.eos_token_id, t.pad_token_id] == [config[x + "_token_id"] for x in ("bos", "eos", "pad")] and
           len(t) == config["vocab_size"], f"ours, {kind.__name__}: ids are not config.json's")
        ok(t("a cat")["input_ids"] == [t.bos_token_id, *t("a cat", add_special_tokens=False)["input_ids"], t.eos_token_id],
           f"ours, {kind.__name__}: a document")
    for name in "vocab.json", "merges.txt", "tokenizer_config.json":
        shutil.copy(path("trained", name), folder("two"))
    t = GPT2TokenizerFast.from_pretrained(path("two"))
    compare_texts("ours, vocab.json and merges.txt", path("two"), *both_fast(t), texts)

    t = tokenizers.ByteLevelBPETokenizer()                  # trained there
    t.train_from_iterator([corpus], vocab_size=500, min_frequency=2, special_tokens=SPECIALS, show_progress=False)
    t.save(os.path.join(folder("one"), "tokenizer.json"))
    compare_texts("ByteLevelBPETokenizer", path("one"), *both(t), texts)
    t.save_model(folder("files"))
    read = tokenizers.ByteLevelBPETokenizer.from_file(path("files", "vocab.json"), path("files", "merges.txt"))
    read.add_special_tokens(SPECIALS)
    compare_texts("vocab.json and merges.txt", path("files"), *both(read), texts)

    added = tokenizers.AddedToken
    for what, prefix, extra in [("add_prefix_space", True, []), ("added tokens", False, [
            added("cat", single_word=True, normalized=False), added(" naïve", normalized=True), added("<new>", lstrip=True),
            added("日", rstrip=True), added("<both>", lstrip=True, rstrip=True, special=True), added("2000")])]:
        t = tokenizers.Tokenizer(tokenizers.models.BPE())
        t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        t.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=450, special_tokens=["<|endoftext|>"], show_progress=False,
                                                 initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
        t.train_from_iterator([corpus], trainer)
        t.add_tokens(extra)
        t.save(os.path.join(folder("bpe"), "tokenizer.json"))
        more = [text.replace("the", r.choice([" <new>", "<new>\n", "catcat", " cat ", "cat_", "<both> "])) for text in texts]
        compare_texts(f"BpeTrainer, {what}", path("bpe"), *both(t), more)
        transformers.PreTrainedTokenizerFast(tokenizer_object=t, eos_token="<|endoftext|>").save_pretrained(folder("saved"))
        t = AutoTokenizer.from_pretrained(path("saved"))
        compare_texts(f"BpeTrainer, {what}, saved by transformers", path("saved"), *both_fast(t), more)
    GPT2TokenizerFast.from_pretrained(path("saved")).save_pretrained(folder("gpt2"))
    compare_texts("saved by GPT2TokenizerFast", path("gpt2"), *both_fast(GPT2TokenizerFast.from_pretrained(path("gpt2"))),
                  texts)


# ----------------------------------------------------------------

def main():
    torch.manual_seed(3)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, tokenizers {tokenizers.__version__}, "
          f"safetensors {safetensors.__version__}", flush=True)
    for part in theirs_here, ours_there, variants, classifiers, files, texts_agree:
        try:
            part()
        except Exception as error:                          # what follows is still tested
            ok(False, f"{part.__name__}: {type(error).__name__}: {error}")
    print(f"hf: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return counts["failed"] != 0


if __name__ == "__main__":
    sys.exit(main())
