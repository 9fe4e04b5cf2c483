/**
 * Builds the merge list of a SentencePiece BPE vocabulary, which stores none: every split of a token into two tokens is a
 * merge, and merges whose result has a higher score come first. Among the splits of one token, pairs of earlier tokens
 * come first.
 *
 * @param scores one a token, in the order of ids
 * @returns pairs, best first
 */
export function mergesFromScores(tokens: readonly string[], scores: readonly number[]): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const merges: { pair: [string, string]; score: number; left: number; right: number }[] = []
  tokens.forEach((token, id) => {
    const characters = Array.from(token)
    for (let cut = 1; cut < characters.length; cut++) {
      const pair: [string, string] = [characters.slice(0, cut).join(''), characters.slice(cut).join('')]
      const left = ids.get(pair[0])
      const right = ids.get(pair[1])
      if (left !== undefined && right !== undefined)
        merges.push({ pair, score: scores[id] ?? 0, left, right })
    }
  })
  return merges
    .sort((a, b) => b.score - a.score || a.left - b.left || a.right - b.right)
    .map(({ pair }) => pair)
}
