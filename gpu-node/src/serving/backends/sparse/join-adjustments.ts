import type { LogitAdjustments } from '../../../../gpu/addon.d.ts'
import type { CandidateRequest } from '../../sampling/candidates.ts'

/** Joins the tokens whose logits are adjusted, of all requests for candidates, for the GPU addon; undefined if none are. */
export function joinAdjustments(
  requests: readonly (CandidateRequest | undefined)[],
): LogitAdjustments | undefined {
  const asking = requests.filter((request) => request !== undefined)
  if (!asking.some(({ adjusted }) => adjusted)) return undefined
  const lists = asking.flatMap(({ chances, adjusted }) => chances.map((_, place) => adjusted?.[place]))
  const counts = Int32Array.from(lists, (list) => list?.tokens.length ?? 0)
  const total = counts.reduce((sum, count) => sum + count, 0)
  const joined: LogitAdjustments = {
    counts,
    tokens: new Int32Array(total),
    biases: new Float32Array(total),
    factors: new Float32Array(total),
    deductions: new Float32Array(total),
  }
  let at = 0
  for (const list of lists) {
    if (!list) continue
    for (const name of ['tokens', 'biases', 'factors', 'deductions'] as const)
      joined[name].set(list[name], at)
    at += list.tokens.length
  }
  return joined
}
