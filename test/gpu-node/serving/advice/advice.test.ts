import { expect, test } from 'vitest'
import {
  advise as adviseOn,
  frontOf,
  type AdviceRow,
  type AdviceSubject,
} from '../../../../gpu-node/src/serving/advice/advice.ts'

const exactly = (value: number) => ({ median: value, min: value, max: value, count: 1 })

function row(subject: Partial<AdviceRow>, speed: number, perplexity = 20, bytes = 100): AdviceRow {
  const [oneStream, eightStreams] = [exactly(speed), exactly(2 * speed)]
  return {
    mask: 'm3',
    precision: 'bf16',
    form: 'packed',
    ...subject,
    bytes,
    oneStream,
    eightStreams,
    prefill: exactly(300),
    perplexity,
  }
}

const PACKED = row({}, 100)
const DENSE_FORM = row({ form: 'dense' }, 80, 20, 180)
const INT4 = row({ precision: 'int4', form: null }, 150, 20.1, 60)
const WORSE = row({ precision: 'int8' }, 300, 21)
/** Advises on a machine whose node stores pruned int4 packed. */
const advise = (rows: readonly AdviceRow[], now: AdviceSubject) => adviseOn(rows, now, 'packed')

const NOW = { mask: 'm3', precision: 'bf16', form: null } as const

test('a row that is much faster at almost the same perplexity is advised with what to change', () => {
  const { current, better, sentence } = advise([DENSE_FORM, PACKED, INT4, WORSE], NOW)
  expect(current, 'the node chooses the faster form').toBe(PACKED)
  expect(better?.row, 'int8 costs five per cent').toBe(INT4)
  expect(sentence).toBe(
    'int4 under m3 is 1.50 × as fast as bf16 under m3, packed, as it is served now, at 0.5 % more perplexity: ' +
      'restart the node with COPAL_PRECISION=int4.',
  )
})

test('a node that holds both forms is as fast as the better one for each number of streams', () => {
  const oneStream = { ...row({}, 100), eightStreams: exactly(100) }
  const eightStreams = { ...row({ form: 'dense' }, 50), eightStreams: exactly(400) }
  const int4 = row({ precision: 'int4', form: null }, 160)
  expect(advise([oneStream, eightStreams, int4], NOW)).toMatchObject({
    better: null,
    sentence: expect.stringMatching(/^Stay with bf16 under m3, stored in both forms: /),
  })
  const faster = row({ precision: 'int4', form: null }, 200)
  expect(advise([oneStream, eightStreams, faster], NOW).sentence).toMatch(
    /^int4 under m3 is 1\.41 × as fast as bf16 under m3, stored in both forms, as it is served now/,
  )
})

test('a node that serves int4 has the form of its kernel, or that of its settings', () => {
  const now = { ...NOW, precision: 'int4' } as const
  const dense = row({ precision: 'int4', form: 'dense' }, 100, 24)
  const packed = row({ precision: 'int4' }, 90, 20)
  expect(advise([dense, packed], now).current).toBe(packed)
  expect(adviseOn([dense, packed], now, 'dense').current).toBe(dense)
  expect(advise([dense, packed], { ...now, form: 'dense' }).current, 'COPAL_FORM is dense').toBe(dense)
})

test('a form of int4 that the node would not take by itself is named', () => {
  const int4 = row({ precision: 'int4' }, 150)
  expect(advise([PACKED, int4], NOW).sentence).toMatch(/: restart the node with COPAL_PRECISION=int4\.$/)
  expect(adviseOn([PACKED, int4], NOW, 'dense').sentence).toMatch(
    /: restart the node with COPAL_PRECISION=int4 COPAL_FORM=packed\.$/,
  )
})

test('another form of the same weights is advised where the settings force the slower one', () => {
  const { sentence } = advise([DENSE_FORM, PACKED], { ...NOW, form: 'dense' })
  expect(sentence).toBe(
    'bf16 under m3, packed is 1.25 × as fast as bf16 under m3, stored dense, as it is served now, ' +
      'at the same perplexity: restart the node with COPAL_FORM=packed.',
  )
})

test('another mask is advised by its name', () => {
  const other = row({ mask: 'm2' }, 130, 19)
  expect(advise([PACKED, other], NOW).sentence).toMatch(/at 5\.0 % less perplexity: serve m2\.$/)
})

test('nothing is advised for a small gain', () => {
  const small = row({ precision: 'int8' }, 119)
  expect(advise([PACKED, small], NOW)).toMatchObject({
    better: null,
    sentence:
      'Stay with bf16 under m3, packed: nothing measured here is 1.2 × as fast at 1 % more perplexity or less.',
  })
})

test('what is served now may not have been measured', () => {
  expect(advise([INT4], { ...NOW, precision: 'int8' })).toMatchObject({
    current: null,
    better: null,
    sentence: 'int4 under m3 is the fastest here.',
  })
})

test('the front has the rows that no other row beats', () => {
  const beaten = row({ mask: 'm1' }, 90, 22, 110)
  expect(frontOf([PACKED, DENSE_FORM, INT4, WORSE, beaten])).toEqual(new Set([PACKED, INT4, WORSE]))
  expect(frontOf([PACKED, { ...PACKED }]).size, 'equal rows beat neither').toBe(2)
})
