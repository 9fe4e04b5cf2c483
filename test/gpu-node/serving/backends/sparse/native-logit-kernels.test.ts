/** Tests the logit kernels of the addon against those in JavaScript, which are tested against the definition. */
import { expect, test } from 'vitest'
import type { Addon } from '../../../../../gpu-node/native/addon.d.ts'
import { createNativeLogitKernels } from '../../../../../gpu-node/src/serving/backends/sparse/native-logit-kernels.ts'
import {
  createScriptLogitKernels,
  type LogitKernels,
  type SamplingCuts,
} from '../../../../../gpu-node/src/serving/sampling/logit-kernels.ts'
import { addon } from '../../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../../support/harness/skip-without-addon.ts'
import { createRandom, normals } from '../../../../support/harness/random.ts'

if (addon) testLoops(addon)
else skipWithoutAddon('loops over the vocabulary')

function testLoops(native: Addon): void {
  const CUTS: SamplingCuts[] = [
    { temperature: 0, topK: 0, topP: 1, minP: 0 },
    { temperature: 1, topK: 0, topP: 1, minP: 0 },
    { temperature: 0.2, topK: 0, topP: 1, minP: 0 },
    { temperature: 2, topK: 5, topP: 1, minP: 0 },
    { temperature: 1, topK: 1, topP: 1, minP: 0 },
    { temperature: 1, topK: 1e9, topP: 1, minP: 0 },
    { temperature: 0.7, topK: 0, topP: 0.9, minP: 0 },
    { temperature: 1, topK: 0, topP: 0, minP: 0 },
    { temperature: 1, topK: 0, topP: 1, minP: 0.05 },
    { temperature: 1, topK: 0, topP: 1, minP: 1 },
    { temperature: 0.8, topK: 20, topP: 0.95, minP: 0.01 },
  ]

  test.each(native.kernels())('%s: the same token for the same logits, cuts and chance', (kernel) => {
    const random = createRandom(17)
    for (const vocab of [1, 7, 8, 17, 64, 65, 1000, 49_152]) {
      const inAddon = createNativeLogitKernels(native, vocab, kernel)
      const inScript = createScriptLogitKernels(vocab)
      for (let round = 0; round < (vocab < 1000 ? 20 : 4); round++) {
        const logits = logitsOf(random, vocab, round)
        expect(inAddon.logSumExp(logits)).toBeCloseTo(inScript.logSumExp(logits), 11)
        for (const cuts of CUTS) {
          for (const chance of [0, random(), random(), 1 - 2 ** -32]) {
            const token = inAddon.draw(logits, cuts, chance)
            expect({ cuts, chance, token }).toEqual({
              cuts,
              chance,
              token: inScript.draw(logits, cuts, chance),
            })
          }
        }
      }
    }
  })

  test('both reject values that are not logits', () => {
    for (const [logits, sentence] of [
      [Float32Array.of(1, 2, NaN, 0), 'The model’s logits are not numbers (token 2)'],
      [new Float32Array(40).fill(NaN, 33), 'The model’s logits are not numbers (token 33)'],
      [Float32Array.of(-Infinity, -Infinity), 'The model’s largest logit is -'],
      [Float32Array.of(1, Infinity), 'The model’s largest logit is '],
    ] as const) {
      for (const create of [
        createScriptLogitKernels,
        (vocab: number) => createNativeLogitKernels(native, vocab),
      ]) {
        const loops: LogitKernels = create(logits.length)
        for (const action of [
          () => loops.draw(logits, CUTS[1]!, 0.5),
          () => loops.draw(logits, CUTS[0]!, 0),
          () => loops.logSumExp(logits),
        ]) {
          expect(action).toThrow(expect.objectContaining({ name: 'AppError', code: 'invalid_output' }))
          expect(action).toThrow(sentence.replace('’', "'"))
        }
      }
    }
  })

  test('arguments out of range are rejected by name', () => {
    const sampler = new native.Sampler({ vocabSize: 4 })
    const logits = Float32Array.of(1, 2, 3, 4)
    for (const [temperature, minP, topK, topP, chance, name] of [
      [-1, 0, 0, 1, 0, 'temperature'],
      [NaN, 0, 0, 1, 0, 'temperature'],
      [Infinity, 0, 0, 1, 0, 'temperature'],
      [1, 2, 0, 1, 0, 'minP'],
      [1, 0, -1, 1, 0, 'topK'],
      [1, 0, 0.5, 1, 0, 'topK'],
      [1, 0, NaN, 1, 0, 'topK'],
      [1, 0, 0, -0.1, 0, 'topP'],
      [1, 0, 0, 1, NaN, 'chance'],
    ] as const) {
      const settings = Float64Array.of(temperature, minP, topK, topP, chance)
      expect(() => sampler.draw(logits, settings)).toThrow(`${name} must be`)
    }
    const settings = Float64Array.of(1, 0, 0, 1, 0)
    expect(() => sampler.draw(logits.subarray(1), settings)).toThrow('3 logits are not those of 4 tokens')
    expect(() => sampler.draw(logits, settings.subarray(1))).toThrow('settings has 4 numbers; 5 are expected')
    expect(() => new native.Sampler({ vocabSize: 0 })).toThrow('vocabSize must be a whole number')
  })
}

/** Creates logits that are flat, peaked, tied and partly forbidden, in turn. */
function logitsOf(random: () => number, vocab: number, round: number): Float32Array {
  const logits = normals(random, vocab, 0, [0.01, 2, 8, 3][round % 4]!)
  if (round % 4 === 3) logits.forEach((logit, token) => void (logits[token] = Math.round(logit)))
  if (round % 3 === 2) for (let token = 1; token < vocab; token += 2) logits[token] = -Infinity
  return logits
}
