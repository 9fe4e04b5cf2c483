import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  kullbackLeibler,
  measureLayerSensitivity,
} from '../../../../gpu-node/src/pruning/sensitivity/measure-layer-sensitivity.ts'
import { selectToFile } from '../../../../gpu-node/src/pruning/selection/select-to-file.ts'
import { linearShapes } from '../../../../gpu-node/src/model/config/llama-config.ts'
import {
  findLayerSensitivity,
  layerSensitivityFile,
  layerSensitivityPath,
} from '../../../../gpu-node/src/model/sensitivities/layer-sensitivity.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { layerSensitivityOf } from '../../../support/models/sensitivities.ts'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel({ layers: 2, intermediateSize: 200 })
})
afterAll(() => tiny.remove())

const windows = [Int32Array.from({ length: 24 }, (_, i) => (i * 7) % 50), new Int32Array(24).fill(3)]

async function maskOf(method: string, patterns: Record<string, string> = {}): Promise<string> {
  const selection = { method, pattern: '0.5', scope: 'row', patterns } as const
  const metadata = { domains: [], parent: null, created: '2026-01-01T00:00:00Z' }
  return (
    await selectToFile({ model: tiny.model, artifacts: [], selection, metadata, dir: tiny.dir, threads: 1 })
  ).path
}

async function measure(maskPath: string) {
  const cacheDir = join(tiny.dir, 'cache')
  const steps: string[] = []
  const measured = await measureLayerSensitivity(tiny.model, {
    maskPath,
    windows,
    textSha256: 'a'.repeat(64),
    threads: 1,
    cacheDir,
    created: '2026-01-01T00:00:00Z',
    signal: new AbortController().signal,
    onProgress: (_, message) => steps.push(message),
  })
  expect(readdirSync(join(cacheDir, 'tmp'))).toEqual([])
  return { measured, steps }
}

test('the loss of a linear is the decrease of the divergence when that linear is dense', async () => {
  const path = await maskOf('magnitude', { 'model.layers.0.mlp.down_proj.weight': '0.95' })
  const { measured, steps } = await measure(path)
  expect(layerSensitivityFile.parse(measured)).toEqual(measured)
  const names = [...linearShapes(tiny.model.config).keys()]
  expect(steps).toEqual(['dense', 'everything pruned', ...names.map((name) => `all but ${name}`)])
  expect(Object.keys(measured.linears).toSorted()).toEqual(names.toSorted())
  const { ratio, loss } = measured.linears['model.layers.0.mlp.down_proj.weight']!
  expect(ratio).toBeCloseTo(0.95, 2)
  expect(measured.linears['model.layers.1.mlp.up_proj.weight']?.ratio).toBe(0.5)
  expect(loss).toBeGreaterThan(0)
  expect(loss).toBeLessThan(measured.divergence)
})

test('a mask that leaves linears dense, and a weights file, are errors', async () => {
  const expected = /mask file that prunes every linear/
  const some = await maskOf('magnitude', { 'model.layers.0.mlp.up_proj.weight': 'dense' })
  await expect(measure(some)).rejects.toThrow(expected)
})

test('the divergence of two distributions follows the definition, and is 0 for equal ones', () => {
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2). A constant added to logits has no effect.
  const p = Float32Array.of(Math.log(2) + 5, 5, 5)
  const q = Float32Array.of(-3, -3, Math.log(2) - 3)
  expect(kullbackLeibler(p, q)).toBeCloseTo(0.25 * Math.log(2), 6)
  expect(kullbackLeibler(p, p)).toBeCloseTo(0, 12)
})

test('a local measurement is found, and an error names a damaged file', async () => {
  const cacheDir = temporaryDir()
  const { config, master } = tiny.model
  expect(await findLayerSensitivity(cacheDir, config, master.baseSha256)).toBeNull()
  const path = layerSensitivityPath(cacheDir, master.baseSha256)
  mkdirSync(join(cacheDir, 'layer-sensitivities'))
  // Format version 1 had no version in its name.
  writeFileSync(path.replace('.v2.json', '.json'), '{"format_version":1}')
  expect(await findLayerSensitivity(cacheDir, config, master.baseSha256)).toBeNull()
  const own = layerSensitivityOf(tiny.model, [0.1, 0.2])
  writeFileSync(path, JSON.stringify(own))
  expect(await findLayerSensitivity(cacheDir, config, master.baseSha256)).toEqual(own)
  writeFileSync(path, readFileSync(path).subarray(0, 50))
  await expect(findLayerSensitivity(cacheDir, config, master.baseSha256)).rejects.toThrow(path)
  writeFileSync(
    path,
    JSON.stringify(layerSensitivityOf({ ...tiny.model, config: { ...config, layers: 1 } }, [0.1])),
  )
  await expect(findLayerSensitivity(cacheDir, config, master.baseSha256)).rejects.toThrow(
    /is not the layer sensitivity of this model/,
  )
})
