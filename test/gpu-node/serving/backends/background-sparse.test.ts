import { afterAll, beforeAll, expect, test } from 'vitest'
import { chooseBackend } from '../../../../gpu-node/src/serving/backends/choose-backend.ts'
import { checkGeneration } from '../../../../gpu-node/src/pruning/evaluation/check-generation.ts'
import type { WeightSet } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { addon } from '../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { halfMaskFile, TARGETS, TOKENS } from '../../../support/models/masked-scores.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

if (addon) testBackground()
else skipWithoutAddon('evaluation by the sparse engine')

function testBackground(): void {
  let tiny: TinyModel
  beforeAll(async () => {
    tiny = await openTinyModel()
  })
  afterAll(() => tiny.remove())

  test.each([
    ['bf16', 'packed', 'f16'],
    ['bf16', 'packed', 'int8'],
    ['int8', 'packed', 'f16'],
    ['int4', 'packed', 'f16'],
    ['int4', 'dense', 'f16'],
    ['int4', 'auto', 'f16'],
  ] as const)(
    'a mask is evaluated with the engine, precisions and form that serve it: the losses of %s %s with keys in %s are equal bit by bit',
    async (precision, form, kvPrecision) => {
      const backend = chooseBackend({
        backend: 'sparse',
        kernel: null,
        gpu: null,
        precision,
        form,
        cacheDir: temporaryDir(),
        headPrecision: 'int8',
        kvPrecision,
        threads: 1,
        kvTokens: 1024,
        workDir: tiny.dir,
        log: memoryLog(),
      })
      const maskPath = await halfMaskFile(tiny.model, 1)
      const source = { model: tiny.model, version: 1, maskPath }
      const served = await backend.load({ ...source, priority: 'serving', budgetBytes: () => 0 })
      const background = await backend.load({ ...source, priority: 'background' })
      const score = async (weights: WeightSet, pages: { pages?: number[] }) => {
        const work = { sequence: 1, tokens: TOKENS, position: 0, output: 'nll', targets: TARGETS } as const
        const { outputs } = await backend.step({ weights, work: [{ ...work, ...pages }], drop: [] })
        return outputs[0]
      }
      const pages = Array.from({ length: Math.ceil(TOKENS.length / 16) }, (_, page) => page)
      expect(await score(background, {})).toEqual(await score(served, { pages }))
      expect(background.numerics).toBe(served.numerics)
      const stored = served.form?.name === 'packed' ? 'int4 packed 2' : 'int4 dense'
      expect(served.numerics).toBe(
        `${precision === 'int4' ? stored : precision}, head int8${kvPrecision === 'int8' ? ', keys int8' : ''}`,
      )
      expect(await checkGeneration(backend, background, tiny.model)).toMatchObject({ finite: true })
      await backend.release(background)
      await expect(background.ended).resolves.toBeUndefined()
      await backend.release(served)
    },
  )
}
