"""What transformers calls the parameters of a BERT."""

import numpy as np

from tinylm.autograd import trees

NAMES = {
    "token_embedding": "embeddings.word_embeddings.weight",
    "position_embedding": "embeddings.position_embeddings.weight",
    "segment_embedding": "embeddings.token_type_embeddings.weight",
    "embedding_norm": "embeddings.LayerNorm",
    "blocks": "encoder.layer",
    "attention.W_Q": "attention.self.query.weight",
    "attention.W_K": "attention.self.key.weight",
    "attention.W_V": "attention.self.value.weight",
    "attention.W_O": "attention.output.dense.weight",
    "attention.b_Q": "attention.self.query.bias",
    "attention.b_K": "attention.self.key.bias",
    "attention.b_V": "attention.self.value.bias",
    "attention.b_O": "attention.output.dense.bias",
    "norm_1": "attention.output.LayerNorm",
    "feed_forward.W_1": "intermediate.dense.weight",
    "feed_forward.b_1": "intermediate.dense.bias",
    "feed_forward.W_2": "output.dense.weight",
    "feed_forward.b_2": "output.dense.bias",
    "norm_2": "output.LayerNorm",
    "pooler": "pooler.dense",
    "gain": "weight",
    "W": "weight",
    "b": "bias",
}
HEADS = {
    "masked-lm": "cls.predictions.transform.dense",
    "sequence-classification": "classifier",
    "token-classification": "classifier",
    "question-answering": "qa_outputs",
}


def their_name(task, path):
    """What transformers calls the parameter at a path of ours."""
    if path == "head.bias":
        return "cls.predictions.bias"
    begin = "" if task is None or path.startswith("head") else "bert."
    path = path.replace("head.norm", "cls.predictions.transform.LayerNorm")
    path = path.replace("head", HEADS.get(task, ""))
    for ours, theirs in NAMES.items():
        path = f".{path}.".replace(f".{ours}.", f".{theirs}.")[1:-1]
    return begin + path


def mapped(model, tensors):
    """Their tensors, or gradients, as a nest of ours."""

    def find(path, p):
        theirs = tensors[their_name(model.task, path)]
        return theirs.T if path.split(".")[-1].startswith("W") else theirs

    return trees.map_paths(find, model.init(np.random.default_rng(0)))
