"""Write code: a small GPT completes functions of Python's standard library.

It reads a megabyte of the library's source in tokens of byte pairs; so do n-gram models (Chen and
Goodman 1998), by characters and by the same tokens. All are measured by character on other files.
Then each goes on, four times, from signature and docstring of functions elsewhere, and the parser is
the judge; nothing is run. The whole lines within 200 characters, up to the first at the margin, are
to parse and hold a statement; so cut, even the true text may not. Ten minutes on two cores.
"""

import ast
import contextlib
import itertools
import warnings

import common
import numpy as np

import tinylm as tl
from tinylm.text import JOIN, Batches, documents
from tinylm.training import matrices_only, warmup_cosine

LENGTH = 200
ASCII = tl.CharTokenizer.train("".join(map(chr, range(128))))
GPT, SEVEN, LONG, PAIRS = "GPT", "7-gram of characters", "12-gram of characters", "5-gram of tokens"
warnings.filterwarnings("ignore", "invalid", module="<unknown>")  # escapes in what is parsed


def parsed(source):
    """The syntax tree, or None."""
    with contextlib.suppress(SyntaxError, ValueError):
        return ast.parse(source)


def functions(files):
    """The first function with a docstring of each file: all down to it, and the rest."""
    for source in files:
        for node in getattr(parsed(source), "body", []):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and node.body[1:]:
                lines = source.split("\n")[node.lineno - 1 : node.end_lineno]
                head = node.body[0].end_lineno - node.lineno + 1
                # the end of the line is left to write: with what follows it may be one token
                yield "\n".join(lines[:head]), "".join(f"\n{x}" for x in lines[head:]) + "\n"
                break


def judged(prompt, completion):
    """Both, cut; and whether that parses, with a statement beside the docstring."""
    lines = completion[:LENGTH].split("\n")[:-1]
    inside = itertools.takewhile(lambda line: not line.strip() or line[0].isspace(), lines)
    text = prompt + "".join(f"{line}\n" for line in inside)
    return text, parsed(text) is not None and len(parsed(text).body[0].body) > 1


def trained(run, model, ids, measure):
    """Parameters, and (updates, measure) on the way."""
    eighth, history = (5 if run.quick else 500), []
    rate = warmup_cosine(0.64 / model.d_model, 0.0, eighth // 2, 8 * eighth)
    optimizer = tl.AdamW(rate, (0.9, 0.99), weight_decay=0.1, decayed=matrices_only)
    trainer = tl.Trainer(model, model.init(run.rng), optimizer, 1.0, shards=2, processes=2)
    batches = Batches(ids, model.context_length, 4, run.rng)
    for until in range(eighth, 8 * eighth + 1, eighth):
        trainer.run(batches, until)
        history.append((until, measure(model, trainer.params)))
        run.progress(f"step {until}: {history[-1][1]:.3f} nats a character")
    return trainer.params, history


def written(run, model, params, tokenizer, prompt, temperature):
    """Four completions of a prompt, judged."""
    ids = np.tile(tokenizer.encode(prompt), (4, 1))
    room = LENGTH if tokenizer is ASCII else LENGTH // 2
    new = tl.generate(model, params, ids, room, temperature, rng=run.rng)[:, ids.shape[1] :]
    return [judged(prompt, tokenizer.decode(row)) for row in new]


def readers(run, training, held_out):
    """All who have read the training text, as `written` wants them; and how well each did."""
    pairs = tl.BPETokenizer.train(training, 300 if run.quick else 1000)

    def nats(model, params, stride=None):
        measured = tl.perplexity(model, params, pairs.encode(held_out), stride)
        return measured.nll * measured.tokens / len(held_out)

    sizes = (64, 32, 2, 1) if run.quick else (256, 128, 4, 3)
    model = tl.GPT(pairs.vocab_size, *sizes, positions="rotary", norm="rms", bias=False)
    params, history = trained(run, model, pairs.encode(training), nats)
    found, writers = {GPT: nats(model, params, sizes[0] // 2)}, {GPT: (model, params, pairs)}
    for name, order, units in ((SEVEN, 7, ASCII), (LONG, 12, ASCII), (PAIRS, 5, pairs)):
        writers[name] = tl.NGram(units.encode(training), order, units.vocab_size), None, units
        measured = writers[name][0].perplexity(units.encode(held_out))
        found[name] = measured.nll * measured.tokens / len(held_out)
    rows = [{"": k, "nats per character": x, "perplexity": np.exp(x)} for k, x in found.items()]
    run.table(f"{len(held_out):,} characters, after reading {len(training):,}", rows)
    run.say(f"GPT beside 7-gram: {found[GPT] - found[SEVEN]:+.3f} nats a character.")
    return writers, found, history


def main(run):
    files = [text for text in documents(run.data or "python-code") if text.isascii()]
    common.enough(len(files), 10, "files of ASCII text")
    run.rng.shuffle(files)
    ends = np.cumsum([len(x) for x in files])
    size = min(50_000 if run.quick else 1_000_000, ends[-1] // 2)
    a, b = np.add([1, 2], np.searchsorted(ends, [size, size * 8 // 7]))
    writers, found, history = readers(run, JOIN.join(files[:a]), JOIN.join(files[a:b]))
    figure, (left, right) = common.pyplot().subplots(1, 2, figsize=(9, 3.6))
    left.plot(*zip(*history, strict=True), "o-", label="GPT, as it learns")
    left.set(xlabel="updates", ylabel="nats per character, held out")
    short = (pair for pair in functions(files[b:]) if len(pair[0]) < 200)
    asked = list(itertools.islice(short, 2 if run.quick else 50))
    truth, rows = np.mean([judged(*pair)[1] for pair in asked]), []
    for color, name in (("C0", GPT), ("C1", SEVEN), ("C2", PAIRS)):
        left.axhline(found[name], color=color, linestyle="--", label=f"{name}, at the end")
        shares = {}
        for t in (0.2, 0.5, 0.8, 1.0):
            texts = [x for prompt, _ in asked for x in written(run, *writers[name], prompt, t)]
            shares[t] = np.mean([good for _, good in texts])
        two = "\n".join(x for x, _ in written(run, *writers[name], min(asked)[0], 0.5)[:2])
        run.say(f"{name}, at temperature 0.5:\n\n```text\n{two}```")
        rows.append({"": name} | {f"at {t}": share for t, share in shares.items()})
        right.plot(shares.keys(), shares.values(), "o-", label=name)
    run.table(f"Share that parses, by temperature; {truth:.2f} of the true text", rows)
    right.axhline(truth, color="gray", linestyle="--", label="the true text")
    right.set(xlabel="temperature", ylabel="share that parses", ylim=(0, 1))
    left.legend(), right.legend()
    run.picture(figure, "code: nats per character of held-out files, and the share that parses")


if __name__ == "__main__":
    common.start(main)
