import { expect, test } from 'vitest'
import { chooseForm } from '../../../../../gpu-node/src/serving/backends/sparse/form-choice.ts'
import { isCertain, speedOf } from '../../../../../gpu-node/src/serving/backends/sparse/form-speed.ts'
import { NOISY_ROUNDS } from '../../../../support/engine/noisy-form-rounds.ts'

type Recording = keyof typeof NOISY_ROUNDS

/** Returns the first rounds of a recording at a number of tokens. */
function roundsOf(recording: Recording, tokens: 1 | 2 | 4 | 8 | 256, count: number) {
  const rounds = NOISY_ROUNDS[recording][tokens].split(' ').map((round) => {
    const [packed = Number.NaN, dense = Number.NaN] = round.split('/').map(Number)
    return { packed, dense }
  })
  expect(rounds).toHaveLength(21)
  return rounds.slice(0, count)
}

/** Returns the form that a node chooses after so many rounds of a recording. */
function formAfter(recording: Recording, count: number) {
  const speed = (tokens: 1 | 2 | 4 | 8 | 256) => speedOf(tokens, roundsOf(recording, tokens, count))
  return chooseForm({
    wanted: 'auto',
    figures: { counts: [speed(1), speed(2), speed(4), speed(8)], prefill: speed(256) },
    streams: 8,
    bytes: { packed: 60, dense: 100 },
    fits: () => true,
  }).form
}

test('on a busy machine no number of rounds leads to packed weights that are slower at eight streams', () => {
  for (let count = 7; count <= 21; count++) expect(formAfter('int8', count), `${count} rounds`).toBe('dense')
})

test('one round that is too fast by chance does not count', () => {
  const rounds = roundsOf('bf16', 1, 21)
  const shortest =
    Math.min(...rounds.map(({ dense }) => dense)) / Math.min(...rounds.map(({ packed }) => packed))
  expect(shortest).toBeGreaterThan(1.8)
  const speed = speedOf(1, rounds)
  expect(speed.packedSpeed).toBeLessThan(1.35)
  expect(speed.low).toBeGreaterThan(1.1)
  expect(isCertain(speed)).toBe(false)
})

test('packed weights are not taken for prefill before it is clear that they are fast enough', () => {
  expect(formAfter('bf16Disturbed', 7)).toBe('dense')
  expect(formAfter('bf16Disturbed', 21)).toBe('packed')
})

test('the same rounds have the same interval, and equal rounds have none', () => {
  const rounds = roundsOf('bf16', 8, 14)
  expect(speedOf(8, rounds)).toEqual(speedOf(8, rounds))
  const equal = Array.from({ length: 7 }, () => ({ packed: 2, dense: 3 }))
  expect(speedOf(1, equal)).toEqual({ tokens: 1, packedSpeed: 1.5, low: 1.5, high: 1.5 })
})
