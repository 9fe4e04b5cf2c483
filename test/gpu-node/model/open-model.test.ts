import { rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openModel } from '../../../gpu-node/src/model/open-model.ts'
import { loadTensor } from '../../../gpu-node/src/model/master/read-master.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'
import { createTinyGguf } from '../../support/models/tiny-gguf.ts'
import { createTinyLlama } from '../../support/models/tiny-llama.ts'

test('a GGUF and a directory of the same weights open as the same model', async () => {
  const cacheDir = temporaryDir()
  const directory = await createTinyLlama(join(temporaryDir(), 'Tiny'))
  const gguf = await createTinyGguf(join(temporaryDir(), 'Tiny-Q4_1.gguf'))
  const first = await openModel(directory.dir, { cacheDir })
  const second = await openModel(gguf.path, { cacheDir })
  expect([first.id, second.id]).toEqual(['tiny', 'tiny'])
  expect(second.config).toEqual(first.config)
  expect(second.master.baseSha256).toBe(first.master.baseSha256)
  expect(second.master.path).not.toBe(first.master.path)
  const text = 'The rain in <|im_start|>Spain\n\n42'
  expect(second.codec.encode(text)).toEqual(first.codec.encode(text))
  const messages = [{ role: 'user', content: 'Hi' }]
  expect(second.codec.renderChat(messages)).toBe(first.codec.renderChat(messages))
})

test('two directories whose files differ never share a master', async () => {
  const cacheDir = temporaryDir()
  const one = await openModel((await createTinyLlama(temporaryDir(), { seed: 1 })).dir, { cacheDir })
  const two = await openModel((await createTinyLlama(temporaryDir(), { seed: 2 })).dir, { cacheDir })
  expect(two.master.path).not.toBe(one.master.path)
  expect(two.master.baseSha256).not.toBe(one.master.baseSha256)
})

test('changed end tokens are read, and the weights are not converted again', async () => {
  const cacheDir = temporaryDir()
  const { dir } = await createTinyLlama(temporaryDir())
  const before = await openModel(dir, { cacheDir })
  const { ino } = await stat(before.master.path)
  await writeFile(join(dir, 'generation_config.json'), '{"eos_token_id": [0, 2]}')
  const after = await openModel(dir, { cacheDir })
  expect(after.config.eosTokenIds).toEqual([2, 0])
  expect((await stat(after.master.path)).ino).toBe(ino)
})

test('a file that is replaced under the same name is converted again', async () => {
  const cacheDir = temporaryDir()
  const dir = temporaryDir()
  await createTinyLlama(dir, { seed: 1 })
  const before = await openModel(dir, { cacheDir })
  const { tensors } = await createTinyLlama(dir, { seed: 2 })
  const after = await openModel(dir, { cacheDir })
  expect(after.master.baseSha256).not.toBe(before.master.baseSha256)
  expect(await loadTensor(after.master, 'model.norm.weight')).toEqual(
    tensors.get('model.norm.weight')!.values,
  )
})

test.each([
  ['SmolLM2-135M-Instruct.Q4_1.gguf', 'smollm2-135m-instruct'],
  ['Llama-3.2-1B-Instruct-Q4_K_M.gguf', 'llama-3.2-1b-instruct'],
  ['model one (2).gguf', 'model-one-2-'],
  ['tiny-bf16.gguf', 'tiny'],
])('%s has the default name %s', async (file, id) => {
  const cacheDir = temporaryDir()
  const { path } = await createTinyGguf(join(temporaryDir(), file))
  expect((await openModel(path, { cacheDir })).id).toBe(id)
  expect((await openModel(path, { cacheDir, id: 'mine' })).id).toBe('mine')
})

test('rope scaling of a directory reaches the configuration', async () => {
  const scaling = {
    type: 'llama3',
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalContextLength: 64,
  } as const
  const { dir } = await createTinyLlama(temporaryDir(), { ropeScaling: scaling, tied: false })
  expect((await openModel(dir, { cacheDir: temporaryDir() })).config).toMatchObject({
    ropeScaling: scaling,
    tiedEmbedding: false,
  })
})

test('a chat template may be in a separate file or one of several', async () => {
  const { dir } = await createTinyLlama(temporaryDir(), { chatTemplate: null })
  await writeFile(join(dir, 'chat_template.jinja'), 'file: {{ messages[0].content }}')
  const messages = [{ role: 'user', content: 'Hi' }]
  const cacheDir = temporaryDir()
  expect((await openModel(dir, { cacheDir })).codec.renderChat(messages)).toBe('file: Hi')
  const templates = [
    { name: 'tool_use', template: 'tools' },
    { name: 'default', template: 'default: {{ messages[0].content }}{{ eos_token }}' },
  ]
  const config = { chat_template: templates, eos_token: { content: '</s>' } }
  await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify(config))
  expect((await openModel(dir, { cacheDir })).codec.renderChat(messages)).toBe('default: Hi</s>')
})

test.each([
  ['config.json', '{', 'is not valid JSON'],
  ['config.json', '[]', 'is not a JSON object'],
  ['tokenizer.json', '{}', 'describes no vocabulary'],
])('%s with content %s is an error', async (file, content, message) => {
  const { dir } = await createTinyLlama(temporaryDir())
  await writeFile(join(dir, file), content)
  await expect(openModel(dir, { cacheDir: temporaryDir() })).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining(message),
  })
})

test('a directory without a tokenizer is an error', async () => {
  const { dir } = await createTinyLlama(temporaryDir())
  await rm(join(dir, 'tokenizer.json'))
  await expect(openModel(dir, { cacheDir: temporaryDir() })).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('tokenizer.json is missing'),
  })
})
