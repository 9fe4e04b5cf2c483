/** Measures forms with times that noise disturbs: a machine that is noisy when it should be cannot be had. */
import { expect, test } from 'vitest'
import {
  createFormMeter,
  measureForms,
  type FormFigures,
  type FormSubject,
} from '../../../../../gpu-node/src/serving/backends/sparse/form-figures.ts'
import { createRandom } from '../../../../support/harness/random.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { tinyConfig } from '../../../../support/models/tiny-llama.ts'

const SUBJECT: FormSubject = {
  config: tinyConfig(),
  precision: 'bf16',
  kernel: 'scalar',
  threads: 2,
  kept: { weights: 1000, share: 0.5, group: null },
}

/** An addon whose packed weights are 1.2 times as fast as dense ones, and whose times noise makes longer. */
function noisyAddon(noise: () => number) {
  const timed: string[] = []
  return {
    timed,
    sourceHash: () => 'hash',
    createFormSample: () =>
      Promise.resolve({
        bytes: () => 1,
        time(form: 'packed' | 'dense', tokens: number) {
          timed.push(`${form} ${tokens}`)
          return Promise.resolve((form === 'packed' ? 1 : 1.2) * (1 + noise()))
        },
        free: () => undefined,
      }),
  }
}

const atOnce = <T>(piece: () => Promise<T>): Promise<T> => piece()

test('a quiet machine is measured in seven rounds, a noisy one in more', async () => {
  const quiet = noisyAddon(() => 0)
  const found = await measureForms(quiet, SUBJECT, atOnce)
  const speed = { packedSpeed: 1.2, low: 1.2, high: 1.2 }
  expect(found.prefill).toEqual({ tokens: 256, ...speed })
  expect(found.counts).toEqual([1, 2, 4, 8, 16, 32].map((tokens) => ({ tokens, ...speed })))
  expect(quiet.timed).toHaveLength(7 * 7 * 2)

  const random = createRandom(1)
  const noisy = noisyAddon(random)
  const { counts } = await measureForms(noisy, SUBJECT, atOnce)
  expect(noisy.timed.length).toBeGreaterThan(7 * 7 * 2)
  expect(noisy.timed.length).toBeLessThanOrEqual(21 * 7 * 2)
  for (const { low, high } of counts) {
    expect(low).toBeLessThan(1.2)
    expect(high / low).toBeGreaterThan(1.02)
  }
})

test('figures that noise made uncertain are measured again after ten minutes, and the more certain ones stay', async () => {
  const random = createRandom(2)
  let noise = 1
  let nowMs = 0
  const addon = noisyAddon(() => noise * random())
  const meter = createFormMeter({ addon, cacheDir: temporaryDir(), nowMs: () => nowMs })
  const figures = () => meter.figures(SUBJECT, atOnce)
  const width = (found: FormFigures | null) => {
    const { low = Number.NaN, high = Number.NaN } = found?.counts[0] ?? {}
    return high / low
  }

  const first = await figures()
  expect(width(first)).toBeGreaterThan(1.1)
  const rounds = addon.timed.length
  nowMs += 9 * 60_000
  expect(await figures()).toEqual(first)
  expect(addon.timed.length).toBe(rounds)

  noise = 5
  nowMs += 2 * 60_000
  const second = await figures()
  expect(addon.timed.length).toBeGreaterThan(rounds)
  expect(width(second), 'the noisier measurement does not replace the first').toBeLessThanOrEqual(
    width(first),
  )

  noise = 0
  nowMs += 11 * 60_000
  expect(width(await figures())).toBe(1)
  const certain = addon.timed.length
  nowMs += 24 * 3_600_000
  expect(width(await figures())).toBe(1)
  expect(addon.timed.length, 'certain figures are kept for good').toBe(certain)
})
