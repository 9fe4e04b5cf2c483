import { prefixUnits } from '@copal/shared/wire/prefix.ts'
import type { Beginning } from '../engine/beginnings.ts'
import type { DenseModel } from '../model/dense-model.ts'
import { checkTokens, contextExceeded } from '../engine/refusals.ts'

/** Characters a token stands for at most in all but the oddest text. */
const CHARACTERS_PER_TOKEN = 8

/** Cutting a text may change how its last few characters are tokenised. */
const CUT_SLACK_TOKENS = 16

/**
 * Tokenises a prompt. One that is certainly too long is refused by its beginning: tokenising a
 * megabyte takes about a second, in which nothing else on this thread would move.
 *
 * @throws AppError `context_length_exceeded`
 */
export function encodePrompt(
  encode: (text: string) => number[],
  text: string,
  contextLength: number,
): number[] {
  const most = CHARACTERS_PER_TOKEN * contextLength
  if (text.length > most) {
    const beginning = encode(text.slice(0, most)).length
    if (beginning - CUT_SLACK_TOKENS > contextLength)
      throw contextExceeded(beginning - CUT_SLACK_TOKENS, contextLength, 'at least')
  }
  return encode(text)
}

/**
 * The tokens of what a field of a request holds: texts, lists of token ids, or one of either.
 *
 * @param inputs the same as a list
 * @throws AppError `context_length_exceeded`, `invalid_request` that names a token which the model does not have
 */
export function tokensOf(
  inputs: readonly (string | number[])[],
  field: { name: string; value: unknown },
  model: Pick<DenseModel, 'codec' | 'config'>,
  contextLength: number,
): number[][] {
  const isOne = !Array.isArray(field.value) || typeof field.value[0] === 'number'
  return inputs.map((input, index) => {
    if (typeof input === 'string')
      return encodePrompt((text) => model.codec.encodeDocument(text), input, contextLength)
    checkTokens(input, model.config.vocabSize, isOne ? field.name : `${field.name}[${index}]`)
    return input
  })
}

/**
 * About how many tokens each beginning has that the gateway gave a key.
 *
 * @param units of the prompt: UTF-16 code units of a text, or token ids
 * @param tokens of the prompt
 */
export function beginningsOf(
  keys: readonly string[] | undefined,
  units: number,
  tokens: number,
): Beginning[] {
  return (keys ?? []).map((name, index) => ({
    name,
    tokens: Math.min(tokens, Math.ceil((prefixUnits(index) / units) * tokens)),
  }))
}
