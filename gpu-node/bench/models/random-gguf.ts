import { open } from 'node:fs/promises'
import type { LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import type { DenseMaster } from '@copal/gpu-node/model/master/dense-model.ts'
import { readExactly } from '@copal/gpu-node/platform/positional-read.ts'
import { ggufArchitecture, ggufName } from './gguf-llama.ts'
import { writeGguf, type GgufTensorData, type GgufValue } from './gguf-writer.ts'

/** GGML's type number of f32. */
const F32 = 0

/**
 * Writes a master as an f32 GGUF file without a tokenizer, to measure the speed of llama.cpp. Rows of queries and keys
 * keep the master's order, so the output differs. Holds all weights in memory.
 */
export async function writeRandomGguf(path: string, config: LlamaConfig, master: DenseMaster): Promise<void> {
  const metadata = new Map<string, GgufValue>([
    ...ggufArchitecture(config),
    ['llama.vocab_size', config.vocabSize],
    ['tokenizer.ggml.model', 'none'],
  ])
  const stored = new Map<string, GgufTensorData>()
  const file = await open(master.path)
  try {
    for (const [name, { shape, offset, bytes }] of master.tensors) {
      stored.set(ggufName(name), {
        type: F32,
        dims: [...shape].reverse(),
        bytes: await readExactly(file, offset, bytes, master.path),
      })
    }
  } finally {
    await file.close()
  }
  await writeGguf(path, metadata, stored)
}
