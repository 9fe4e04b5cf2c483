/** The sum of a metric's values in Prometheus' text, of the series whose labels have this text, or of all. */
export function sumOf(metrics: string, name: string, labels = ''): number {
  let sum = 0
  for (const [, own = '', value] of metrics.matchAll(new RegExp(`^${name}\\{(.*)\\} (\\d+)$`, 'gm')))
    if (own.includes(labels)) sum += Number(value)
  return sum
}
