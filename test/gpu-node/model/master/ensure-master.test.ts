import { createHash } from 'node:crypto'
import { mkdir, open, readdir, readFile, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BLOCK_LINEARS, linearName } from '../../../../gpu-node/src/model/config/llama-config.ts'
import { ensureMaster } from '../../../../gpu-node/src/model/master/ensure-master.ts'
import { fileState } from '../../../../gpu-node/src/platform/file-digest.ts'
import { allocateBlock, loadTensor, readBlock } from '../../../../gpu-node/src/model/master/read-master.ts'
import { hashLinears } from '../../../support/models/hash-linears.ts'
import type { ModelProgress } from '../../../../gpu-node/src/platform/progress.ts'
import { storedBytes } from '../../../support/models/safetensors-writer.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { createTinyLlama, type TinyLlamaOptions } from '../../../support/models/tiny-llama.ts'

async function tinySource(options: TinyLlamaOptions = {}) {
  const { dir, config, tensors } = await createTinyLlama(temporaryDir(), options)
  const path = join(dir, (options.shards ?? 1) > 1 ? 'model.safetensors.index.json' : 'model.safetensors')
  return { source: { path, config, sha256: 'a'.repeat(64) }, tensors, config }
}

test.each<TinyLlamaOptions>([
  {},
  { dtype: 'F16' },
  { dtype: 'BF16', shards: 2 },
  { tied: false, hiddenSize: 40, headDim: 16 },
])('the master of %j has every tensor in f32, aligned, under its name', async (options) => {
  const { source, tensors } = await tinySource(options)
  const master = await ensureMaster(source, { cacheDir: temporaryDir(), what: 'tiny' })
  expect([...master.tensors.keys()].sort()).toEqual([...tensors.keys()].sort())
  expect(master.tensors.has('lm_head.weight')).toBe(options.tied === false)
  const matrices = [...master.tensors.values()].filter(({ shape }) => shape.length > 1)
  expect(matrices.filter(({ offset }) => offset % 64 !== 0)).toEqual([])
  const dtype = options.dtype ?? 'F32'
  for (const [name, { shape, values }] of tensors) {
    const tensor = master.tensors.get(name)!
    expect(tensor.shape).toEqual(shape)
    const read = await loadTensor(master, name)
    expect(storedBytes(read, dtype)).toEqual(storedBytes(values, dtype))
  }
})

test('the base hash covers only the linears, in forward order', async () => {
  const { source, tensors, config } = await tinySource()
  const master = await ensureMaster(source, { cacheDir: temporaryDir(), what: 'tiny' })
  const hash = createHash('sha256')
  for (const layer of [0, 1]) {
    for (const name of BLOCK_LINEARS) hash.update(tensors.get(linearName(layer, name))!.values)
  }
  expect(master.baseSha256).toBe(hash.digest('hex'))
  expect(await hashLinears(master, config)).toBe(master.baseSha256)
})

test('a block is read with its norm weights', async () => {
  const { source, tensors } = await tinySource()
  const master = await ensureMaster(source, { cacheDir: temporaryDir(), what: 'tiny' })
  const block = allocateBlock(source.config)
  await readBlock(master, 1, block)
  expect(block.linears['mlp.down_proj']).toEqual(tensors.get('model.layers.1.mlp.down_proj.weight')!.values)
  expect(block.inputNorm).toEqual(tensors.get('model.layers.1.input_layernorm.weight')!.values)
  expect(block.postAttentionNorm).toEqual(
    tensors.get('model.layers.1.post_attention_layernorm.weight')!.values,
  )
})

test('an error names a tensor that the master does not have', async () => {
  const { source } = await tinySource()
  const master = await ensureMaster(source, { cacheDir: temporaryDir(), what: 'tiny' })
  await expect(loadTensor(master, 'lm_head.weight')).rejects.toThrow(/no tensor lm_head\.weight/)
})

test('progress ends with all bytes done, and opening the model again converts nothing', async () => {
  const { source } = await tinySource()
  const cacheDir = temporaryDir()
  const progress: ModelProgress[] = []
  const options = { cacheDir, what: 'tiny', onProgress: (report: ModelProgress) => progress.push(report) }
  const first = await ensureMaster(source, options)
  expect(progress[0]).toMatchObject({ stage: 'convert', what: 'tiny', doneBytes: 0, secondsLeft: null })
  expect(progress.at(-1)).toMatchObject({ doneBytes: progress[0]!.totalBytes, secondsLeft: 0 })
  progress.length = 0
  expect(await ensureMaster(source, options)).toEqual(first)
  expect(progress).toEqual([])
  expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])
})

test('processes that convert one model at the same time all get a complete master', async () => {
  const { source } = await tinySource()
  const cacheDir = temporaryDir()
  const masters = await Promise.all(
    Array.from({ length: 4 }, () => ensureMaster(source, { cacheDir, what: 'tiny' })),
  )
  for (const master of masters) expect(master).toEqual(masters[0])
  expect(await hashLinears(masters[0]!, source.config)).toBe(masters[0]!.baseSha256)
  expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])
})

describe('a damaged master is converted again', () => {
  const damages: Record<string, (path: string, dir: string) => Promise<void>> = {
    'cut short': (path) => truncate(path, 5000),
    'with one byte changed': async (path) => flipByte(path, 150_000),
    'without its manifest': (_, dir) => writeFile(join(dir, 'manifest.json'), ''),
    'with a manifest of nothing': (_, dir) => writeFile(join(dir, 'manifest.json'), 'null'),
    'of another version': async (_, dir) => {
      const manifest = join(dir, 'manifest.json')
      const json = JSON.parse(await readFile(manifest, 'utf8')) as object
      await writeFile(manifest, JSON.stringify({ ...json, format_version: 0 }))
    },
  }
  test.each(Object.keys(damages))('%s', async (kind) => {
    const { source, tensors } = await tinySource()
    const cacheDir = temporaryDir()
    const master = await ensureMaster(source, { cacheDir, what: 'tiny' })
    await damages[kind]!(master.path, join(master.path, '..'))
    const again = await ensureMaster(source, { cacheDir, what: 'tiny' })
    expect(again).toEqual(master)
    for (const [name, { values }] of tensors) expect(await loadTensor(again, name)).toEqual(values)
    expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])
  })

  test('if all bytes are checked, even when size and times did not change', async () => {
    const { source } = await tinySource()
    const cacheDir = temporaryDir()
    const master = await ensureMaster(source, { cacheDir, what: 'tiny' })
    await flipByte(master.path, 150_000)
    // Like bit rot: the recorded size and times are those of the damaged file.
    await writeFile(join(master.path, '..', 'verified-state'), await fileState(master.path))
    expect(await hashLinears(await ensureMaster(source, { cacheDir, what: 'tiny' }), source.config)).not.toBe(
      master.baseSha256,
    )
    const again = await ensureMaster(source, { cacheDir, what: 'tiny', thorough: true })
    expect(await hashLinears(again, source.config)).toBe(master.baseSha256)
  })
})

test('an intact master whose times changed is kept after its bytes are checked', async () => {
  const { source } = await tinySource()
  const cacheDir = temporaryDir()
  const master = await ensureMaster(source, { cacheDir, what: 'tiny' })
  const { ino } = await stat(master.path)
  await utimes(master.path, 1000, 1000)
  await ensureMaster(source, { cacheDir, what: 'tiny' })
  expect((await stat(master.path)).ino).toBe(ino)
})

test('without disk space nothing is written, and the error states both sizes', async () => {
  const { source } = await tinySource()
  const cacheDir = temporaryDir()
  const opening = ensureMaster(source, { cacheDir, what: 'tiny', freeBytes: () => Promise.resolve(100_000) })
  await expect(opening).rejects.toMatchObject({
    code: 'internal_error',
    message: expect.stringMatching(/No disk space left in .* 1 MB are needed, 1 MB are free.*COPAL_CACHE/),
  })
  expect(await readdir(cacheDir)).toEqual([])
})

test('an abort ends the conversion and leaves no files', async () => {
  const { source } = await tinySource()
  const cacheDir = temporaryDir()
  const controller = new AbortController()
  const opening = ensureMaster(source, {
    cacheDir,
    what: 'tiny',
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('enough')),
  })
  await expect(opening).rejects.toThrow('enough')
  expect(await readdir(join(cacheDir, 'tmp'))).toEqual([])
  expect(await readdir(cacheDir)).toEqual(['tmp'])
  expect((await ensureMaster(source, { cacheDir, what: 'tiny' })).tensors.size).toBe(20)
})

test('files that a killed process left are removed', async () => {
  const { source } = await tinySource()
  const cacheDir = temporaryDir()
  // No process id is this large.
  const left = join(cacheDir, 'tmp', `${hostname()}~999999999~x`)
  const foreign = join(cacheDir, 'tmp', 'another-host~1~x')
  const old = join(cacheDir, 'tmp', 'another-host~1~old')
  for (const dir of [left, foreign, old]) await mkdir(dir, { recursive: true })
  await utimes(old, 1000, 1000)
  await ensureMaster(source, { cacheDir, what: 'tiny' })
  expect(await readdir(join(cacheDir, 'tmp'))).toEqual(['another-host~1~x'])
})

test('weights that do not fit their configuration are an error with the message of the worker', async () => {
  const { source } = await tinySource()
  const config = { ...source.config, layers: 3 }
  await expect(
    ensureMaster({ ...source, config }, { cacheDir: temporaryDir(), what: 'tiny' }),
  ).rejects.toMatchObject({
    code: 'unsupported_model',
    message: expect.stringContaining('holds no tensor model.layers.2.input_layernorm.weight'),
  })
})

async function flipByte(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+')
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at)
  await file.write(Buffer.of(buffer[0]! ^ 0xff), 0, 1, at)
  await file.close()
}
