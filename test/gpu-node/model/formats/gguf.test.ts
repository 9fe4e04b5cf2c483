import { stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readGgufConfig } from '../../../../gpu-node/src/model/formats/gguf-config.ts'
import { GGML_TYPES } from '../../../../gpu-node/src/model/formats/dequantise.ts'
import { openGgufCheckpoint, readGgufHeader } from '../../../../gpu-node/src/model/formats/gguf.ts'
import { llama3Factors } from '../../../../gpu-node/src/model/config/rope-factors.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { storedBytes } from '../../../support/models/safetensors-writer.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import {
  createTinyGguf,
  PLAIN_ENCODINGS,
  type GgmlEncoding,
  type TinyGgufOptions,
} from '../../../support/models/tiny-gguf.ts'

/** Returns random blocks of a quantised type with small, finite scales. */
function randomBlocks(type: number, seed: number): GgmlEncoding {
  const { blockBytes, blockValues, name } = GGML_TYPES.get(type)!
  const scalesAt = name === 'Q6_K' ? [208] : name === 'Q4_1' || name === 'Q4_K' ? [0, 2] : [0]
  const random = createRandom(seed)
  return {
    type,
    encode(values) {
      const bytes = Uint8Array.from(
        { length: (values.length / blockValues) * blockBytes },
        () => random() * 256,
      )
      for (let at = 0; at < bytes.length; at += blockBytes)
        for (const place of scalesAt) bytes[at + place + 1] = 0x1c
      return bytes
    },
  }
}

test.each(['F32', 'F16', 'BF16'] as const)(
  'a model stored as %s has the rows of q and k in half-split order',
  async (dtype) => {
    const { path, tensors } = await createTinyGguf(join(temporaryDir(), 'm.gguf'), {
      encoding: PLAIN_ENCODINGS[dtype],
    })
    const checkpoint = await openGgufCheckpoint(path)
    expect([...checkpoint.shapes.keys()].sort()).toEqual([...tensors.keys()].sort())
    for (const [name, { shape, values }] of tensors) {
      expect(checkpoint.shapes.get(name)).toEqual(shape)
      const read = await checkpoint.readRows(name, 0, shape.length < 2 ? 1 : shape[0]!)
      const stored = name.includes('_proj') ? storedBytes(values, dtype) : storedBytes(values, 'F32')
      expect(storedBytes(read, name.includes('_proj') ? dtype : 'F32')).toEqual(stored)
    }
    await checkpoint.close()
  },
)

test.each([2, 3, 8, 12, 14])('rows of GGML type %i are read from their offset, in pieces', async (type) => {
  const dir = temporaryDir()
  const options: TinyGgufOptions = { hiddenSize: 256, intermediateSize: 256, headDim: 64, layers: 1 }
  const name = 'model.layers.0.self_attn.q_proj.weight'
  const encoding = randomBlocks(type, type)
  const { path } = await createTinyGguf(join(dir, 'm.gguf'), { ...options, encoding })
  const checkpoint = await openGgufCheckpoint(path)
  const whole = await checkpoint.readRows(name, 0, 256)
  const pieces: number[] = []
  for (let head = 0; head < 4; head++) pieces.push(...(await checkpoint.readRows(name, head * 64, 64)))
  expect(pieces).toEqual([...whole])
  // The stored rows in the order of the file: row 2j + i is half i of pair j.
  const header = await readGgufHeader(path)
  const tensor = header.tensors.get('blk.0.attn_q.weight')!
  const stored = tensor.type.dequantise(randomBlocks(type, type).encode(new Float32Array(256 * 256)))
  for (const [row, from] of [
    [0, 0],
    [1, 2],
    [31, 62],
    [32, 1],
    [33, 3],
    [64, 64],
    [97, 67],
  ] as const) {
    expect([...whole.subarray(row * 256, row * 256 + 256)]).toEqual([
      ...stored.subarray(from * 256, from * 256 + 256),
    ])
  }
  await checkpoint.close()
})

test('the configuration equals that of the model', async () => {
  const { path, config } = await createTinyGguf(join(temporaryDir(), 'm.gguf'))
  expect(await readGgufConfig(await readGgufHeader(path))).toEqual(config)
})

test('a separate head weight makes the model untied', async () => {
  const { path, config } = await createTinyGguf(join(temporaryDir(), 'm.gguf'), { tied: false })
  expect(config.tiedEmbedding).toBe(false)
  expect(await readGgufConfig(await readGgufHeader(path))).toEqual(config)
})

test('linear rope scaling is read from its metadata, LLaMA 3’s from its factors', async () => {
  const dir = temporaryDir()
  const linear = await createTinyGguf(join(dir, 'linear.gguf'), {
    metadata: { 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': { f32: 2.5 } },
  })
  expect((await readGgufConfig(await readGgufHeader(linear.path))).ropeScaling).toEqual({
    type: 'linear',
    factor: 2.5,
  })

  const scaling = {
    type: 'llama3',
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalContextLength: 8192,
  } as const
  const factors = Float32Array.from(llama3Factors(scaling, 16, 10_000))
  const llama3 = await createTinyGguf(join(dir, 'llama3.gguf'), {
    extraTensors: new Map([
      ['rope_freqs.weight', { type: 0, dims: [8], bytes: storedBytes(factors, 'F32') }],
    ]),
  })
  expect((await readGgufConfig(await readGgufHeader(llama3.path))).ropeScaling).toEqual(scaling)
})

test('tokens whose names end a turn also end a generation', async () => {
  const { path } = await createTinyGguf(join(temporaryDir(), 'm.gguf'), {
    metadata: { 'tokenizer.ggml.eos_token_id': 0 },
  })
  expect((await readGgufConfig(await readGgufHeader(path))).eosTokenIds).toEqual([0, 2])
})

const bias = { type: 0, dims: [64], bytes: new Uint8Array(256) }

test.each<[string, TinyGgufOptions]>([
  ['architecture "qwen2"', { metadata: { 'general.architecture': 'qwen2' } }],
  ['llama.expert_count', { metadata: { 'llama.expert_count': 8 } }],
  ['sliding_window', { metadata: { 'llama.attention.sliding_window': 4096 } }],
  ['attention bias (tensor blk.0.attn_q.bias)', { extraTensors: new Map([['blk.0.attn_q.bias', bias]]) }],
  ['rope scaling "yarn"', { metadata: { 'llama.rope.scaling.type': 'yarn' } }],
  [
    'rotary factors',
    {
      extraTensors: new Map([
        [
          'rope_freqs.weight',
          { ...bias, dims: [8], bytes: storedBytes(Float32Array.of(1, 1, 2, 3, 4, 5, 6, 9), 'F32') },
        ],
      ]),
    },
  ],
  ['rotary embedding of 8 of 16', { metadata: { 'llama.rope.dimension_count': 8 } }],
  ['4000000000 layers', { metadata: { 'llama.block_count': 4_000_000_000 } }],
  ['llama.block_count is missing', { metadata: { 'llama.block_count': undefined } }],
  ['llama.feed_forward_length is an array', { metadata: { 'llama.feed_forward_length': [64, 64] } }],
])('%s is an error that names it', async (what, options) => {
  const { path } = await createTinyGguf(join(temporaryDir(), 'm.gguf'), options)
  await expect(readGgufHeader(path).then(readGgufConfig)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining(what),
  })
})

test('an unsupported storage type is an error that names the tensor', async () => {
  const encoding = { type: 10, encode: (values: Float32Array) => new Uint8Array((values.length / 256) * 84) }
  const { path } = await createTinyGguf(join(temporaryDir(), 'm.gguf'), { encoding })
  await expect(readGgufHeader(path)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringMatching(/blk\.0\.attn_q\.weight is stored in GGML type 10,.*Q4_K/),
  })
})

test('two tensors that are the same one of the model are an error that names it', async () => {
  const norm = { type: 0, dims: [64], bytes: new Uint8Array(256) }
  const { path } = await createTinyGguf(join(temporaryDir(), 'm.gguf'), {
    extraTensors: new Map([['model.norm.weight', norm]]),
  })
  await expect(openGgufCheckpoint(path)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('two tensors model.norm.weight'),
  })
})

test('a file in big-endian order is an error', async () => {
  const path = join(temporaryDir(), 'm.gguf')
  const header = Buffer.alloc(24)
  header.write('GGUF')
  header.writeUInt32BE(3, 4)
  await writeFile(path, header)
  await expect(readGgufHeader(path)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('big-endian'),
  })
})

test('one part of a split file is an error', async () => {
  const { path } = await createTinyGguf(join(temporaryDir(), 'm.gguf'), { metadata: { 'split.count': 3 } })
  await expect(readGgufHeader(path)).rejects.toMatchObject({
    message: expect.stringContaining('one of 3 parts'),
  })
})

test.each([100, 12_000, -1])('a file truncated at %i bytes is an error', async (length) => {
  const { path } = await createTinyGguf(join(temporaryDir(), 'm.gguf'))
  const { size } = await stat(path)
  await truncate(path, length < 0 ? size - 64 : length)
  await expect(readGgufHeader(path)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringMatching(/Fetch it again/),
  })
})

test('a file that is not a GGUF is an error', async () => {
  const path = join(temporaryDir(), 'm.gguf')
  await writeFile(path, 'This is a long enough text that is no model at all.')
  await expect(readGgufHeader(path)).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('not a GGUF'),
  })
})
