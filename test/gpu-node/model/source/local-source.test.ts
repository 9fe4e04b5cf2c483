import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { findLocalModel } from '../../../../gpu-node/src/model/source/local-source.ts'
import { resolveModel } from '../../../../gpu-node/src/model/source/resolve-model.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { createTinyLlama } from '../../../support/models/tiny-llama.ts'

test('a directory is opened by its only weights file or by its index', async () => {
  const one = await createTinyLlama(join(temporaryDir(), 'one'))
  expect(await findLocalModel(one.dir)).toEqual({
    kind: 'directory',
    dir: one.dir,
    weights: join(one.dir, 'model.safetensors'),
    name: 'one',
  })
  const two = await createTinyLlama(join(temporaryDir(), 'two'), { shards: 2 })
  expect(await findLocalModel(two.dir)).toMatchObject({
    weights: join(two.dir, 'model.safetensors.index.json'),
  })
})

test('a safetensors file is opened with the configuration in its folder', async () => {
  const { dir } = await createTinyLlama(join(temporaryDir(), 'tiny'))
  const weights = join(dir, 'model.safetensors')
  expect(await findLocalModel(weights)).toEqual({ kind: 'directory', dir, weights, name: 'tiny' })
  await rm(join(dir, 'config.json'))
  await expect(findLocalModel(weights)).rejects.toMatchObject({
    message: expect.stringContaining('no config.json'),
  })
})

test('a missing path, another file and a directory without weights each have an error of their own', async () => {
  const dir = temporaryDir()
  await expect(findLocalModel(join(dir, 'none.gguf'))).rejects.toMatchObject({
    code: 'model_not_found',
    message: expect.stringContaining('There is no file or directory'),
  })
  await writeFile(join(dir, 'weights.bin'), '')
  await expect(findLocalModel(join(dir, 'weights.bin'))).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('expected a .gguf file'),
  })
  await mkdir(join(dir, 'model'))
  await expect(findLocalModel(join(dir, 'model'))).rejects.toMatchObject({
    message: expect.stringContaining('config.json'),
  })
  await writeFile(join(dir, 'model', 'config.json'), '{}')
  await expect(findLocalModel(join(dir, 'model'))).rejects.toMatchObject({
    message: expect.stringContaining('neither model.safetensors nor'),
  })
})

test.each(['', '  ', 'ollama:llama3', 'http://host/model.gguf'])('spec %j is an error', async (spec) => {
  await expect(resolveModel(spec, { cacheDir: temporaryDir() })).rejects.toMatchObject({
    code: 'invalid_request',
    message: `Unknown model ${JSON.stringify(spec)}: expected pypi:name==version, hf:org/name, or a path.`,
  })
})
