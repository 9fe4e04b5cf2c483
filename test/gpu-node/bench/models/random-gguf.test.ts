import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { randomConfig, writeRandomModel } from '../../../../gpu-node/bench/models/random-model.ts'
import { openGgufCheckpoint, readGgufHeader } from '../../../../gpu-node/src/model/formats/gguf.ts'
import { writeRandomGguf } from '../../../../gpu-node/bench/models/random-gguf.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

test("a random GGUF has every tensor of the master under llama.cpp's names", async () => {
  const dir = temporaryDir()
  const config = {
    ...randomConfig('1.1b', 2),
    hiddenSize: 64,
    intermediateSize: 96,
    heads: 4,
    kvHeads: 2,
    headDim: 16,
    vocabSize: 100,
  }
  const { master } = await writeRandomModel(dir, config)
  const path = join(dir, 'random.gguf')
  await writeRandomGguf(path, config, master)

  const { metadata } = await readGgufHeader(path)
  expect(Object.fromEntries(metadata)).toMatchObject({
    'general.architecture': 'llama',
    'llama.block_count': 2,
    'llama.embedding_length': 64,
    'llama.vocab_size': 100,
    'tokenizer.ggml.model': 'none',
  })
  const checkpoint = await openGgufCheckpoint(path)
  expect(new Set(checkpoint.shapes.keys())).toEqual(new Set(master.tensors.keys()))
  const bytes = await readFile(master.path)
  for (const [name, { shape, offset }] of master.tensors) {
    expect([name, checkpoint.shapes.get(name)]).toEqual([name, shape])
    // Rows of queries and keys keep the master's order, which the reader interprets as another one.
    if (/\.[qk]_proj\.weight$/.test(name)) continue
    const [rows = 1, cols] = shape.length > 1 ? shape : [1, shape[0]]
    const values = await checkpoint.readRows(name, 0, rows)
    const first = new Float32Array(bytes.buffer, bytes.byteOffset + offset, cols)
    expect([name, values.slice(0, cols)]).toEqual([name, first.slice()])
  }
  await checkpoint.close()
})
