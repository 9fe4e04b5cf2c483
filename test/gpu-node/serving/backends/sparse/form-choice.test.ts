import { expect, test } from 'vitest'
import {
  chooseForm,
  chooseInt4Form,
  type FormQuestion,
} from '../../../../../gpu-node/src/serving/backends/sparse/form-choice.ts'
import type { FormFigures } from '../../../../../gpu-node/src/serving/backends/sparse/form-figures.ts'

/**
 * Speeds of packed weights relative to dense ones at 1, 2, 4 and 8 tokens, and if given at 16 and 32, and in prefill.
 *
 * @param noise half the width of the interval of each, relative to the speed
 */
function figuresOf(speeds: readonly number[], prefill = 1, noise = 0): FormFigures {
  const speed = (tokens: number, packedSpeed: number) => ({
    tokens,
    packedSpeed,
    low: packedSpeed * (1 - noise),
    high: packedSpeed * (1 + noise),
  })
  const counts = speeds.map((packedSpeed, index) => speed(2 ** index, packedSpeed))
  return { counts, prefill: speed(256, prefill) }
}

function choose(figures: FormFigures | null, question: Partial<FormQuestion> = {}) {
  return chooseForm({
    wanted: 'auto',
    figures,
    streams: 8,
    bytes: { packed: 60, dense: 100 },
    fits: () => true,
    ...question,
  })
}

test('the faster form is taken', () => {
  expect(choose(figuresOf([1.5, 1.4, 1.3, 1.1])).form).toBe('packed')
  expect(choose(figuresOf([0.75, 0.75, 0.75, 0.75])).form).toBe('dense')
})

test('forms that are equally fast are stored packed, in less memory', () => {
  expect(choose(figuresOf([1, 1, 1, 1])).form).toBe('packed')
})

test('dense weights stay until packed ones are faster by more than the noise', () => {
  expect(choose(figuresOf([1.05, 1.05, 1.05, 1.05], 1.05, 0.02)).form).toBe('packed')
  expect(choose(figuresOf([1.05, 1.05, 1.05, 1.05], 1.05, 0.08)).form).toBe('dense')
})

test('the packed form is not taken where noise leaves open whether it is much slower', () => {
  expect(choose(figuresOf([1.5, 1.5, 1.5, 1.02], 1.2, 0.04)).form).toBe('packed')
  expect(choose(figuresOf([1.5, 1.5, 1.5, 1.02], 1.2, 0.06)).form).not.toBe('packed')
  expect(choose(figuresOf([1.5, 1.5, 1.5, 1.5], 1, 0.02)).form).toBe('packed')
  expect(choose(figuresOf([1.5, 1.5, 1.5, 1.5], 1, 0.04)).form).not.toBe('packed')
})

test.each([
  ['one stream', figuresOf([0.96, 1.5, 1.5, 1.5])],
  ['eight streams', figuresOf([1.5, 1.5, 1.5, 0.96])],
  ['prefill', figuresOf([1.5, 1.5, 1.5, 1.5], 0.96)],
])('the packed form alone is not taken when it is slower than dense at %s', (_, figures) => {
  expect(choose(figures).form).not.toBe('packed')
})

test('both forms are kept when each is faster at its number of tokens', () => {
  const figures = figuresOf([1.3, 1.2, 1.1, 0.9])
  expect(choose(figures)).toMatchObject({ form: 'both', denseFrom: 8 })
  expect(choose(figuresOf([1.3, 1.2, 0.9, 0.8]))).toMatchObject({ form: 'both', denseFrom: 4 })
  expect(choose(figuresOf([1.3, 1.3, 1.3, 1.2], 0.9)), 'packed in decoding, dense in prefill').toMatchObject({
    form: 'both',
    denseFrom: 9,
  })
  const fewTokens = choose(figures, { streams: 1 })
  expect(fewTokens, 'a single stream is expected').toMatchObject({ form: 'both', denseFrom: 8 })
})

test('of both forms the one that was measured faster multiplies, if it is not much slower in the worst case', () => {
  expect(choose(figuresOf([1.42, 1.4, 1.3, 1.11], 0.95, 0.12))).toMatchObject({ form: 'both', denseFrom: 9 })
  expect(choose(figuresOf([1.42, 1.4, 1.3, 1.11], 0.95, 0.14))).toMatchObject({ form: 'both', denseFrom: 8 })
})

test('both forms are not kept for a small gain', () => {
  expect(choose(figuresOf([1.15, 1, 1, 0.9])).form).toBe('dense')
})

test('a form that is slower only at a number of streams that is not expected is not taken either', () => {
  expect(choose(figuresOf([1.02, 1, 1, 0.5]), { streams: 1 }).form).toBe('dense')
})

test('more than eight streams are looked at where they are expected', () => {
  const figures = figuresOf([1.5, 1.5, 1.5, 1.2, 0.6, 0.7])
  expect(choose(figures, { streams: 8 }).form).toBe('packed')
  expect(choose(figures, { streams: 20 })).toMatchObject({ form: 'both', denseFrom: 16 })
  expect(choose(figures, { streams: 64 }), 'as with 32').toMatchObject({ form: 'both', denseFrom: 16 })
  expect(choose(figures, { streams: 20, fits: (bytes) => bytes <= 100 }).form).toBe('dense')
  expect(choose(figures).why).toContain('1.20 × (1.20–1.20) at 8, 0.70 × (0.70–0.70) at 32, 1.00 ×')
})

test('without memory for the dense form the packed one is taken, and the reason says what it costs', () => {
  const slow = figuresOf([0.75, 0.75, 0.75, 0.75])
  const choice = choose(slow, { fits: (bytes) => bytes < 100 })
  expect(choice.form).toBe('packed')
  expect(choice.why).toBe(
    'measured: packed runs 0.75 × (0.75–0.75) as fast as dense at one stream, 0.75 × (0.75–0.75) at 8, ' +
      '1.00 × (1.00–1.00) in prefill; ' +
      'the dense form does not fit the memory for weight sets (COPAL_WEIGHT_BYTES)',
  )
})

test('without memory for both forms the better one alone is taken', () => {
  const figures = figuresOf([1.3, 1.2, 1.1, 0.9])
  expect(choose(figures, { fits: (bytes) => bytes <= 100 }).form).toBe('dense')
})

test('a forced form is taken whatever it costs, and the reason shows the cost', () => {
  const choice = choose(figuresOf([0.5, 0.5, 0.5, 0.5]), { wanted: 'packed', fits: () => false })
  expect(choice.form).toBe('packed')
  expect(choice.why).toMatch(/^COPAL_FORM is packed; measured: packed runs 0\.50 ×/)
  expect(choose(figuresOf([2, 2, 2, 2]), { wanted: 'dense', fits: () => false }).form).toBe('dense')
})

test('what was not measured is packed', () => {
  expect(choose(null).form).toBe('packed')
})

test('int4 is stored packed by kernels that expand fast, and dense by others', () => {
  expect(chooseInt4Form('avx512bf16')).toEqual({
    form: 'packed',
    denseFrom: 0,
    why: 'with avx512bf16 int4 is packed, which has less perplexity',
  })
  expect(chooseInt4Form('avx512vnni')).toMatchObject({
    form: 'dense',
    why: 'with avx512vnni packed int4 is slower than dense',
  })
})
