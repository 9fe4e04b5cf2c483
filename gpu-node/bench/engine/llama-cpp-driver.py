"""Runs llama.cpp for the benchmarks: commands as lines of JSON on stdin, one answer each on stdout.

Uses the C interface through llama_cpp's ctypes module in a bare loop without sampling, which is as fast as llama.cpp
is: its higher interfaces cost time a token. Errors end the process with a message on stderr.
"""

import ctypes
import json
import math
import os
import sys
import time

import llama_cpp
import numpy

# What llama.cpp prints of itself is not an answer.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


@llama_cpp.llama_log_callback
def quiet(level, text, user_data):
    del user_data
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        sys.stderr.write(text.decode("utf-8", "replace"))


class Model:
    """A model, and a context for as many sequences and tokens as are asked for."""

    def __init__(self, path, threads, sequences, tokens):
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), options)
        if not self.model:
            raise SystemExit(f"llama.cpp could not load {path}")
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = sequences * tokens
        context.n_seq_max = sequences
        context.n_batch = 2048
        context.n_ubatch = 512
        context.n_threads = context.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, context)
        if not self.context:
            raise SystemExit(f"llama.cpp could not make a context for {path}")
        self.batch = llama_cpp.llama_batch_init(2048, 0, sequences)

    def run(self, entries):
        """Feeds (token, position, sequence, whether its logits are wanted)."""
        batch = self.batch
        batch.n_tokens = len(entries)
        for index, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = wanted
        code = llama_cpp.llama_decode(self.context, batch)
        if code != 0:
            raise SystemExit(f"llama_decode returned {code}")

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def synchronize(self):
        llama_cpp.llama_synchronize(self.context)

    def logits(self, index):
        pointer = llama_cpp.llama_get_logits_ith(self.context, index)
        return numpy.ctypeslib.as_array(pointer, shape=(self.vocab,))

    def fill(self, sequences, length):
        """Feeds so many tokens of each sequence; the logits of the last are wanted."""
        chunk = 256
        for start in range(0, length, chunk):
            for sequence in range(sequences):
                end = min(start + chunk, length)
                self.run(
                    [
                        (100 + (position * 7919) % 30000, position, sequence, position == length - 1)
                        for position in range(start, end)
                    ]
                )
        self.synchronize()

    def prefill(self, tokens):
        self.clear()
        started = time.perf_counter()
        self.fill(1, tokens)
        return time.perf_counter() - started

    def decode(self, sequences, context, steps):
        self.clear()
        self.fill(sequences, context)
        started = time.perf_counter()
        for step in range(steps):
            self.run([(100 + step, context + step, sequence, True) for sequence in range(sequences)])
            self.synchronize()
        return time.perf_counter() - started

    def loss(self, tokens):
        """Negative log-likelihoods of all tokens but the first, in nats."""
        self.clear()
        found = []
        chunk = 256
        for start in range(0, len(tokens) - 1, chunk):
            end = min(start + chunk, len(tokens) - 1)
            self.run([(tokens[at], at, 0, True) for at in range(start, end)])
            self.synchronize()
            for index in range(end - start):
                logits = self.logits(index).astype(numpy.float64)
                largest = logits.max()
                total = math.log(numpy.exp(logits - largest).sum()) + largest
                found.append(total - logits[tokens[start + index + 1]])
        return found


def quantise(source, target, kind):
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    options.allow_requantize = True
    code = llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(options))
    if code != 0:
        raise SystemExit(f"llama.cpp could not write {kind}: it returned {code}")
    return True


def main():
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    models = []
    for line in sys.stdin:
        command = json.loads(line)
        name, arguments = command["name"], command["arguments"]
        if name == "quantise":
            answer = quantise(*arguments)
        elif name == "load":
            models.append(Model(*arguments))
            answer = {
                "id": len(models) - 1,
                "bytes": llama_cpp.llama_model_size(models[-1].model),
                "about": llama_cpp.llama_print_system_info().decode(),
            }
        elif name in ("prefill", "decode", "loss"):
            answer = getattr(models[arguments[0]], name)(*arguments[1:])
        else:
            raise SystemExit(f"unknown command {name}")
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()
