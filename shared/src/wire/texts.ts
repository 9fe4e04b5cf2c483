import { z } from 'zod'
import { arrayOf } from './bounded.ts'

const text = z.string().min(1)
const tokens = arrayOf(z.int().min(0)).min(1)

/** A field with texts, or lists of token ids: one, or at most `most`. */
export const textsField = (most: number) =>
  z.union(
    [text, tokens, arrayOf(text).min(1).max(most), arrayOf(tokens).min(1).max(most)],
    `one text or one list of token ids is expected, or a list of at most ${most} of either, none empty`,
  )

/** What such a field holds, as a list. */
export function textsOf(value: z.output<ReturnType<typeof textsField>>): string[] | number[][] {
  if (typeof value === 'string') return [value]
  return isTokens(value) ? [value] : value
}

function isTokens(value: string[] | number[] | number[][]): value is number[] {
  return typeof value[0] === 'number'
}
