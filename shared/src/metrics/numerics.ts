/** The numerics of weights: what of their storage changes the losses that are measured with them. */

/** How weights, keys and values are stored, as far as it changes losses. */
interface StoredWeights {
  /** Precision of the linears. */
  precision: 'f32' | 'bf16' | 'int8' | 'int4'
  headPrecision: 'f32' | 'bf16' | 'int8' | 'int4'
  /** Form of the pruned linears; undefined where nothing is pruned. It changes the values in int4 alone. */
  form?: 'packed' | 'dense' | 'both' | undefined
  /** How keys and values are stored; 16-bit floats by default. */
  kvPrecision?: 'f16' | 'int8' | undefined
}

const FORM = / (packed|packed 2|dense)(?=,)/

/**
 * Names the numerics of weights: `bf16, head int8`, `int4 packed 2, head int8` or `bf16, head int8, keys int8`. Kernel and threads
 * are not part of them. The zero points of `int4 packed` were those of the middle of the range; now they are chosen.
 */
export function numericsOf({ precision, headPrecision, form, kvPrecision }: StoredWeights): string {
  const stored = form === 'packed' ? 'packed 2' : form
  const linears = precision === 'int4' && stored !== undefined ? `int4 ${stored}` : precision
  return `${linears}, head ${headPrecision}${kvPrecision === 'int8' ? ', keys int8' : ''}`
}

/**
 * Returns whether losses that were measured with two numerics can be compared. A form counts only where both have one, because the
 * dense model has none. Null, which is unknown, is like null alone.
 */
export function sameNumerics(a: string | null, b: string | null): boolean {
  if (a === b) return true
  if (a === null || b === null || (FORM.test(a) && FORM.test(b))) return false
  return a.replace(FORM, '') === b.replace(FORM, '')
}
