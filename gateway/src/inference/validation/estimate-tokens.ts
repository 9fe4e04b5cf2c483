const encoder = new TextEncoder()

/**
 * About how many tokens texts have: one for four characters of ASCII, and of others one for each byte, the most that a
 * vocabulary of bytes makes of them. Lists of token ids are counted.
 */
export function estimateTokens(texts: readonly (string | readonly number[])[]): number {
  return texts.reduce<number>(
    (total, text) => total + (typeof text === 'string' ? tokensOf(text) : text.length),
    0,
  )
}

function tokensOf(text: string): number {
  const others = text.replaceAll(/\p{ASCII}+/gu, '')
  const bytes = others === '' ? 0 : encoder.encode(others).length
  return Math.ceil((text.length - others.length) / 4) + bytes
}
