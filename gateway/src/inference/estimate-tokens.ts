/** About how many tokens texts have, four characters each; lists of token ids are counted. */
export function estimateTokens(texts: readonly (string | readonly number[])[]): number {
  return texts.reduce<number>(
    (total, text) => total + (typeof text === 'string' ? Math.ceil(text.length / 4) : text.length),
    0,
  )
}
