/**
 * Returns the weights of domains in the mean loss over all of them: their shares of the traffic. A domain that the update
 * calibrates counts like an average one if it had no traffic, because it is calibrated for traffic to come. Without any
 * traffic all count alike.
 *
 * @param domains the evaluated domains
 * @param updated those that the update calibrates
 * @param tokens settled tokens of each domain
 */
export function trafficWeights(
  domains: readonly string[],
  updated: readonly string[],
  tokens: ReadonlyMap<string, number>,
): Map<string, number> {
  const used = domains.map((domain) => tokens.get(domain) ?? 0).filter((count) => count > 0)
  const total = used.reduce((sum, count) => sum + count, 0)
  if (total === 0) return new Map(domains.map((domain) => [domain, 1]))
  const average = total / used.length
  return new Map(
    domains.map((domain) => {
      const count = tokens.get(domain) ?? 0
      return [domain, count > 0 || !updated.includes(domain) ? count : average]
    }),
  )
}
