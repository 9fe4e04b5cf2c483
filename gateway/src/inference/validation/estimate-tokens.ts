const encoder = new TextEncoder()

/**
 * Estimates the tokens of texts: one for four ASCII characters, and one for each byte of other characters, which is the
 * maximum of a byte-level vocabulary. Lists of token ids are counted. At least one, with which models begin an empty text.
 */
export function estimateTokens(texts: readonly (string | readonly number[])[]): number {
  const tokens = texts.reduce<number>(
    (total, text) => total + (typeof text === 'string' ? tokensOf(text) : text.length),
    0,
  )
  return Math.max(1, tokens)
}

function tokensOf(text: string): number {
  const others = text.replaceAll(/\p{ASCII}+/gu, '')
  const bytes = others === '' ? 0 : encoder.encode(others).length
  return Math.ceil((text.length - others.length) / 4) + bytes
}
