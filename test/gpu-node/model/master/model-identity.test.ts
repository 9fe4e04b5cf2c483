import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { LlamaConfig } from '../../../../gpu-node/src/model/config/llama-config.ts'
import { modelIdentity } from '../../../../gpu-node/src/model/master/model-identity.ts'
import { openModel } from '../../../../gpu-node/src/model/open-model.ts'
import { writeSafetensors } from '../../../support/models/safetensors-writer.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { createTinyLlama, TINY_CHAT_TEMPLATE } from '../../../support/models/tiny-llama.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

let tiny: TinyModel
let known: string

beforeAll(async () => {
  tiny = await openTinyModel()
  known = await modelIdentity(tiny.model)
})

afterAll(() => tiny.remove())

test('the identity of a model does not depend on when and from how many files it is converted', async () => {
  for (const shards of [1, 3]) {
    const { dir } = await createTinyLlama(temporaryDir(), { shards })
    const model = await openModel(dir, { cacheDir: temporaryDir() })
    expect(model.master.path).not.toBe(tiny.model.master.path)
    expect(await modelIdentity(model)).toBe(known)
  }
})

test.each<[string, Partial<LlamaConfig>]>([
  ['another rotary base', { ropeTheta: 20_000 }],
  ['scaled positions', { ropeScaling: { type: 'linear', factor: 2 } }],
  ['another epsilon', { rmsNormEps: 1e-6 }],
  ['another separator of texts', { eosTokenIds: [0, 2] }],
])('the same linears with %s have another identity', async (_what, changed) => {
  const other = { ...tiny.model, config: { ...tiny.model.config, ...changed } }
  expect(await modelIdentity(other)).not.toBe(known)
})

test.each(['model.embed_tokens.weight', 'model.layers.1.input_layernorm.weight', 'model.norm.weight'])(
  'another value in %s gives another identity',
  async (name) => {
    const { dir, tensors } = await createTinyLlama(temporaryDir())
    const { shape, values } = tensors.get(name)!
    const changed = values.slice()
    changed[changed.length - 1]! += 1
    await writeSafetensors(
      join(dir, 'model.safetensors'),
      new Map([...tensors, [name, { shape, values: changed }]]),
      'F32',
    )
    const model = await openModel(dir, { cacheDir: temporaryDir() })
    expect(model.master.baseSha256).toBe(tiny.model.master.baseSha256)
    expect(await modelIdentity(model)).not.toBe(known)
  },
)

test('the identity depends on the tokenizer, but not on the chat template or the context length', async () => {
  const { dir } = await createTinyLlama(temporaryDir(), {
    chatTemplate: `${TINY_CHAT_TEMPLATE} `,
    contextLength: 512,
  })
  const cacheDir = temporaryDir()
  expect(await modelIdentity(await openModel(dir, { cacheDir }))).toBe(known)
  const path = join(dir, 'tokenizer.json')
  await writeFile(path, (await readFile(path, 'utf8')).replace('"Ġ t",', ''))
  expect(await modelIdentity(await openModel(dir, { cacheDir }))).not.toBe(known)
})
