import { prefixUnits } from '@copal/shared/wire/prefix.ts'
import type { NamedPrefix } from '../engine/prefix-names.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { checkTokens } from '../engine/request-errors.ts'
import type { Encoder } from './encoder.ts'

/**
 * The tokens of what a field of a request holds: texts, lists of token ids, or one of either.
 *
 * @param inputs the same as a list
 * @throws AppError `invalid_request` that names a token which the model does not have, and like {@link Encoder.encode}
 */
export async function tokensOf(
  inputs: readonly (string | number[])[],
  field: { name: string; value: unknown },
  { vocabSize }: Pick<DenseModel['config'], 'vocabSize'>,
  encoder: Encoder,
  signal: AbortSignal,
): Promise<number[][]> {
  const isOne = !Array.isArray(field.value) || typeof field.value[0] === 'number'
  for (const [index, input] of inputs.entries())
    if (typeof input !== 'string')
      checkTokens(input, vocabSize, isOne ? field.name : `${field.name}[${index}]`)
  const texts = inputs.filter((input) => typeof input === 'string')
  const encoded = (await encoder.encode(texts, 'document', signal)).values()
  return inputs.map((input) => (typeof input === 'string' ? encoded.next().value! : input))
}

/**
 * Names the prefixes of a prompt that the gateway gave keys, with their approximate length in tokens.
 *
 * @param units of the prompt: UTF-16 code units of a text, or token ids
 * @param tokens of the prompt
 */
export function promptPrefixes(
  keys: readonly string[] | undefined,
  units: number,
  tokens: number,
): NamedPrefix[] {
  return (keys ?? []).map((name, index) => ({
    name,
    tokens: Math.min(tokens, Math.ceil((prefixUnits(index) / units) * tokens)),
  }))
}
