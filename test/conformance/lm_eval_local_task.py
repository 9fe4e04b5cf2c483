"""Runs lm-evaluation-harness (`local-completions`) on a local task of a few texts, and prints its results as JSON.

Arguments: the URL of /v1/completions, the model, the folder of its tokenizer, and a JSON file with the texts. The key is
OPENAI_API_KEY, as for every user of the harness.

The harness, its client and its tokens are the real ones. Stand-ins replace what has no part in that and weighs half a
gigabyte: `datasets` (the texts are given directly), `pandas` and `huggingface_hub` (reports), `sacrebleu` (other
metrics), and of `transformers` the class that opens a `tokenizer.json`, which the `tokenizers` library does underneath.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
import types


class Tokenizer:
    """As much of a tokenizer of transformers as the harness asks for."""

    def __init__(self, folder):
        from tokenizers import Tokenizer as Fast

        self.fast = Fast.from_file(os.path.join(folder, "tokenizer.json"))
        with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as file:
            config = json.load(file)
        self.bos_token_id = self.fast.token_to_id(config["bos_token"])
        self.eos_token_id = self.fast.token_to_id(config["eos_token"])
        self.bos_token, self.eos_token = config["bos_token"], config["eos_token"]

    @classmethod
    def from_pretrained(cls, folder, **_):
        return cls(folder)

    def __call__(self, text, add_special_tokens=False, **_):
        encode = lambda one: self.fast.encode(one, add_special_tokens=add_special_tokens).ids
        ids = encode(text) if isinstance(text, str) else [encode(one) for one in text]
        return types.SimpleNamespace(input_ids=ids)

    def decode(self, ids, **_):
        return self.fast.decode(ids, skip_special_tokens=False)


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports any module of these packages as one whose every name is an empty class."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("datasets", "huggingface_hub", "pandas", "sacrebleu", "transformers"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: type(name, (), {})
        return module

    def exec_module(self, module):
        module.__version__ = "4.0.0"
        if module.__name__ == "transformers":
            module.AutoTokenizer = Tokenizer


sys.meta_path.insert(0, StandIns())

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

url, model, folder, texts_file = sys.argv[1:]


class Docs(list):
    """A list with the columns that the harness reads of a data set."""

    features = {"begin": None, "rest": None, "text": None}


with open(texts_file, encoding="utf-8") as file:
    docs = Docs({"begin": text[0], "rest": text[1:], "text": text} for text in json.load(file))

COMMON = {"custom_dataset": lambda **_: {"test": docs}, "test_split": "test"}
TASKS = [
    # The text after its first character, given that character.
    {
        "task": "continuations",
        "output_type": "loglikelihood",
        "doc_to_text": "{{begin}}",
        "doc_to_target": "{{rest}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    },
    # The whole text after the token that starts texts.
    {
        "task": "texts",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "byte_perplexity"}],
    },
]

results = simple_evaluate(
    model="local-completions",
    model_args={
        "model": model,
        "base_url": url,
        "tokenizer": folder,
        "tokenizer_backend": "huggingface",
        "max_length": 1024,
        "num_concurrent": 1,
    },
    batch_size=3,
    tasks=[ConfigurableTask(config={**COMMON, **task}) for task in TASKS],
    task_manager=TaskManager(include_defaults=False),
    bootstrap_iters=0,
)
samples = results["samples"]
print(
    json.dumps(
        {
            "continuations": [sample["filtered_resps"][0] for sample in samples["continuations"]],
            "texts": [sample["filtered_resps"][0] for sample in samples["texts"]],
            "accuracy": results["results"]["continuations"]["acc,none"],
            "byte_perplexity": results["results"]["texts"]["byte_perplexity,none"],
        }
    )
)
