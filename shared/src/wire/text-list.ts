import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'

const text = z.string().min(1)
const tokens = boundedArray(z.int().min(0)).min(1)

/** A field with texts, or lists of token ids: one, or at most `most`. */
export const textInput = (most: number) =>
  z.union(
    [text, tokens, boundedArray(text).min(1).max(most), boundedArray(tokens).min(1).max(most)],
    `one text or one list of token ids is expected, or a list of at most ${most} of either, none empty`,
  )

/** What such a field holds, as a list. */
export function asTextList(value: z.output<ReturnType<typeof textInput>>): string[] | number[][] {
  if (typeof value === 'string') return [value]
  return isTokens(value) ? [value] : value
}

function isTokens(value: string[] | number[] | number[][]): value is number[] {
  return typeof value[0] === 'number'
}
