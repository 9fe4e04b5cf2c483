/**
 * The GPU engine against the ONNX reference, on the default model and with the same mask: `npm run test:gpu`. `npm test`
 * leaves it out, because a software driver takes minutes for it.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { GpuAddon, GpuEngine } from '../../gpu-node/gpu/addon.d.ts'
import { magnitudeHalfMask } from '../../gpu-node/bench/models/magnitude-mask.ts'
import type { DenseModel } from '../../gpu-node/src/model/master/dense-model.ts'
import { openModelEngine } from '../../gpu-node/src/serving/backends/sparse/model-engine.ts'
import { ENGINE_OPTIONS } from '../support/engine/engine-options.ts'
import { gpu, skipWithoutGpu } from '../support/engine/gpu.ts'
import {
  greedyGaps,
  greedyTexts,
  referenceDistributions,
  type TestedEngine,
} from '../support/engine/greedy-texts.ts'
import { novelPrompts } from '../support/text/novel-prompts.ts'
import { openDefaultModel } from '../support/models/default-model.ts'

const PROMPTS = 20
const LENGTH = 32
/** The prompts that run at once: one, as many as share a pass over the weights, and more. */
const BATCHES = [1, 3, 16]

/** `gap` is the most that ONNX may prefer its token, in logits; `others` the most tokens that may differ. */
const CASES = [
  { precision: 'bf16', masked: true, gap: 0.3, others: 0.05 },
  { precision: 'bf16', masked: false, gap: 0.3, others: 0.05 },
  { precision: 'int8', masked: true, gap: 0.5, others: 0.1 },
] as const

if ('addon' in gpu) testAddon(gpu.addon)
else skipWithoutGpu('greedy texts of the default model')

function testAddon(addon: GpuAddon): void {
  let model: DenseModel
  let workDir: string
  let mask: string

  beforeAll(async () => {
    model = await openDefaultModel()
    workDir = await mkdtemp(join(tmpdir(), 'copal-gpu-texts-'))
    mask = join(workDir, 'mask.safetensors')
    await writeFile(mask, await magnitudeHalfMask(model))
  })
  afterAll(() => rm(workDir, { recursive: true, force: true }))

  test.each(CASES)(
    'greedy texts equal those of ONNX except where its best two tokens are equally good: $precision, masked $masked',
    async ({ precision, masked, gap, others }) => {
      const maskPath = masked ? mask : null
      const prompts = novelPrompts(model, PROMPTS, LENGTH)
      const options = { ...ENGINE_OPTIONS, precision, headPrecision: precision }
      const open: GpuAddon['openEngine'] = (engineOptions) => addon.openEngine(engineOptions)
      const create: TestedEngine<GpuEngine>['create'] = (config, modelOptions) =>
        openModelEngine(open, config, modelOptions)
      const engine = { create, options }
      const texts = await greedyTexts(engine, model, maskPath, prompts, { length: LENGTH, batches: BATCHES })
      const gaps = greedyGaps(texts, await referenceDistributions(model, maskPath, texts, workDir), LENGTH)
      const different = gaps.filter((each) => each > 0)
      process.stderr.write(
        `${precision}, masked ${masked}: ${different.length} of ${gaps.length} others, ${Math.max(...gaps)} logits at most\n`,
      )
      expect(gaps).toHaveLength(PROMPTS * LENGTH)
      expect(Math.max(...gaps)).toBeLessThan(gap)
      expect(different.length).toBeLessThan(others * gaps.length)
    },
  )
}
