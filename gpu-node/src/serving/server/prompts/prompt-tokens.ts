import { prefixUnits } from '@copal/shared/wire/prefix.ts'
import type { NamedPrefix } from '../../engine/prefix-names.ts'
import type { DenseModel } from '../../../model/master/dense-model.ts'
import { checkTokens } from '../../engine/request-errors.ts'
import type { Caller, Encoder } from './encoder.ts'

/**
 * Returns the tokens of a request field that holds texts or lists of token ids, one or several.
 *
 * @param inputs the field's value as a list
 * @throws AppError `invalid_request` for a token that is not in the vocabulary, and as {@link Encoder.encode} does
 */
export async function tokensOf(
  inputs: readonly (string | number[])[],
  field: { name: string; value: unknown },
  { vocabSize }: Pick<DenseModel['config'], 'vocabSize'>,
  encoder: Encoder,
  caller: Caller,
): Promise<number[][]> {
  const isSingle = !Array.isArray(field.value) || typeof field.value[0] === 'number'
  for (const [index, input] of inputs.entries())
    if (typeof input !== 'string')
      checkTokens(input, vocabSize, isSingle ? field.name : `${field.name}[${index}]`)
  const texts = inputs.filter((input) => typeof input === 'string')
  const encoded = (await encoder.encode(texts, 'document', caller)).values()
  return inputs.map((input) => (typeof input === 'string' ? encoded.next().value! : input))
}

/**
 * Names the prefixes of a prompt that the gateway gave keys, with their approximate length in tokens.
 *
 * @param units length of the prompt in UTF-16 code units of a text, or in token ids
 * @param tokens length of the prompt in tokens
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
