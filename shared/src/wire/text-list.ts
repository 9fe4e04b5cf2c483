import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'

const text = z.string().min(1)
/** A body holds half a million tokens, whose parsing takes ten times as long as this test. */
const isToken = (item: unknown) => Number.isSafeInteger(item) && Number(item) >= 0
const tokens = boundedArray(z.int().min(0), isToken).min(1)

/** Creates the schema of a field with a text or a list of token ids, or with up to `max` of either. */
export const textInput = (max: number) =>
  z.union(
    [text, tokens, boundedArray(text).min(1).max(max), boundedArray(tokens).min(1).max(max)],
    `expected a text, a list of token ids, or a list of at most ${max} of either, none of them empty`,
  )

/** Returns the value of such a field as a list. */
export function asTextList(value: z.output<ReturnType<typeof textInput>>): string[] | number[][] {
  if (typeof value === 'string') return [value]
  return isTokens(value) ? [value] : value
}

function isTokens(value: string[] | number[] | number[][]): value is number[] {
  return typeof value[0] === 'number'
}
